/* Owns keeping the dashboard's page up to date. Writes text only, never markup: names of
   processes and threads are other people's. Tables have the cells of page.py. */
"use strict";

const PERIOD = 2000; // milliseconds between two polls
const SLOWEST_PERIOD = 30000; // while nobody answers
const PATIENCE = 15000;
const KEPT = 300; // seconds of history
const WIDTH = 300;
const HEIGHT = 100;
const NONE = "-";
const PARTS = [["p50", 0.5], ["p95", 0.95], ["p99", 0.99]];
const GAUGES = ["size", "max_size", "in_use", "idle", "waiting"];
const COUNTERS = ["borrows", "exhausted", "connects", "connect_errors"];
const MAXIMA = ["wait_max", "held_max"];
const BUCKETS = ["wait_buckets", "held_buckets"];

const byId = (id) => document.getElementById(id);
const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

// Writing to the page

function make(tag, attributes = {}, ...children) {
  const inSvg = ["svg", "path"].includes(tag);
  const element = inSvg
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function write(element, text) {
  // Only what changed: marked text stays marked, and status messages are read out once.
  if (element.textContent !== String(text)) element.textContent = text;
}

function fill(body, rows) {
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, i) => {
    const row = body.rows[i] || body.insertRow();
    cells.forEach((text, j) => {
      const cell =
        row.cells[j] || row.appendChild(j ? make("td") : make("th", { scope: "row" }));
      write(cell, text);
    });
  });
}

function fillTable(table, rows) {
  fill(table.tBodies[0], rows);
  table.parentElement.hidden = !rows.length;
}

function fillList(list, items) {
  while (list.children.length > items.length) list.lastElementChild.remove();
  items.forEach((text, i) => write(list.children[i] || list.appendChild(make("li")), text));
  list.hidden = !items.length;
}

const milliseconds = (s) =>
  s === null ? NONE : (s * 1000).toFixed(s * 1000 < 1 ? 3 : 1);
const seconds = (s) => (s === null || s === undefined ? NONE : s.toFixed(1));

// Figures

function percentile(bounds, buckets, fraction, longest) {
  const count = sum(buckets);
  if (!count) return null;
  const wanted = fraction * count;
  let below = 0;
  for (let i = 0; i < buckets.length; i++) {
    if (buckets[i] && below + buckets[i] >= wanted) {
      const low = i ? bounds[i - 1] : 0;
      const high = i < bounds.length ? Math.min(bounds[i], longest) : longest;
      return low + (Math.max(0, high - low) * (wanted - below)) / buckets[i];
    }
    below += buckets[i];
  }
  return longest;
}

function add(pools) {
  const total = { paused: pools.some((pool) => pool.paused) };
  for (const name of [...GAUGES, ...COUNTERS]) total[name] = sum(pools.map((pool) => pool[name]));
  for (const name of MAXIMA) total[name] = Math.max(...pools.map((pool) => pool[name]));
  for (const name of BUCKETS) {
    total[name] = pools[0][name].map((_, i) => sum(pools.map((pool) => pool[name][i])));
  }
  return total;
}

// What each pool of each process said last: [when, pool].
const before = new Map();

function since(time, lastTime, { process, pool }) {
  // What happened in one pool since it was last seen, and how long ago that was.
  const key = JSON.stringify([process.pid, process.started, pool.alias, pool.name]);
  let [then, earlier] = before.get(key) || [lastTime, null];
  before.set(key, [time, pool]);
  const isNew = lastTime !== null && process.started > lastTime;
  const difference = (name, i) => {
    const now = i === undefined ? pool[name] : pool[name][i];
    if (earlier === null) return isNew ? now : 0;
    return Math.max(0, now - (i === undefined ? earlier[name] : earlier[name][i]));
  };
  const between = { borrows: difference("borrows"), elapsed: then === null ? 0 : time - then };
  for (const name of MAXIMA) between[name] = pool[name];
  for (const name of BUCKETS) between[name] = pool[name].map((_, i) => difference(name, i));
  return between;
}

function point(time, bounds, total, parts) {
  const p = { time, in_use: total.in_use, waiting: total.waiting, size: total.size };
  p.max_size = total.max_size;
  const timed = parts.filter((part) => part.elapsed > 0);
  p.rate = timed.length ? sum(timed.map((part) => part.borrows / part.elapsed)) : null;
  for (const kind of ["wait", "held"]) {
    const name = `${kind}_buckets`;
    const buckets = parts[0][name].map((_, i) => sum(parts.map((part) => part[name][i])));
    const longest = Math.max(...parts.map((part) => part[`${kind}_max`]));
    for (const [label, part] of PARTS) {
      const value = percentile(bounds, buckets, part, longest);
      p[`${kind}_${label}`] = value === null ? null : value * 1000;
    }
  }
  return p;
}

// Plots

const count = (n) => (n === null ? NONE : String(n));
const decimal = (n) => (n === null ? NONE : n.toFixed(n < 10 ? 1 : 0));
const inMs = (n) => (n === null ? NONE : n < 1 ? n.toFixed(2) : n < 100 ? n.toFixed(1) : n.toFixed(0));
const PLOTS = [
  {
    title: "Connections",
    unit: "",
    format: count,
    series: [["in_use", "in use"], ["waiting", "waiting"], ["size", "size"], ["max_size", "max"]],
  },
  { title: "Borrows per second", unit: "/s", format: decimal, series: [["rate", "borrows"]] },
  { title: "Wait", unit: " ms", format: inMs, series: PARTS.map(([p]) => [`wait_${p}`, p]) },
  { title: "Held", unit: " ms", format: inMs, series: PARTS.map(([p]) => [`held_${p}`, p]) },
];

function ceiling(value) {
  // The next of 1, 2, 5, 10, 20, ...
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= value * 0.999999);
}

class Plot {
  constructor(kind) {
    this.kind = kind;
    this.points = [];
    this.pointed = null; // the time that the pointer is at
    this.values = kind.series.map(() => make("b"));
    const legend = kind.series.map(([, label], i) =>
      make("span", { class: `series-${i}` }, `${label} `, this.values[i])
    );
    this.svg = make("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
    });
    this.svg.append(make("path", { class: "grid", d: `M0 ${HEIGHT / 2}H${WIDTH}` }));
    this.lines = kind.series.map((_, i) =>
      this.svg.appendChild(make("path", { class: `line series-${i}` }))
    );
    // What comes first is drawn on top.
    this.lines.forEach((line) => this.svg.insertBefore(line, this.svg.children[1]));
    this.cursor = this.svg.appendChild(make("path", { class: "cursor" }));
    this.top = make("span", { class: "top", "aria-hidden": "true" });
    this.when = make("span");
    this.figure = make(
      "figure",
      {},
      make("figcaption", {}, make("b", {}, kind.title), make("span", { class: "legend" }, ...legend)),
      make("div", { class: "plot" }, this.top, this.svg),
      make("div", { class: "axis", "aria-hidden": "true" }, make("span", {}, "5 min ago"), this.when)
    );
    this.svg.addEventListener("pointermove", (event) => {
      const box = this.svg.getBoundingClientRect();
      this.pointed = this.start + ((event.clientX - box.left) / box.width) * KEPT;
      this.legend();
    });
    this.svg.addEventListener("pointerleave", () => {
      this.pointed = null;
      this.legend();
    });
  }

  get start() {
    return this.points.length ? this.points[this.points.length - 1].time - KEPT : 0;
  }

  x(point) {
    return ((point.time - this.start) / KEPT) * WIDTH;
  }

  draw(points) {
    this.points = points;
    const names = this.kind.series.map(([name]) => name);
    const highest = Math.max(...points.flatMap((point) => names.map((name) => point[name] ?? 0)));
    const top = highest > 0 ? ceiling(highest) : 1;
    names.forEach((name, i) => this.lines[i].setAttribute("d", this.path(name, top)));
    write(this.top, `${top}${this.kind.unit}`);
    this.legend();
    const texts = this.kind.series.map(([name, label]) => {
      const most = Math.max(...points.map((point) => point[name] ?? 0));
      const now = this.kind.format(points[points.length - 1][name]);
      return `${label} ${now}${this.kind.unit} now, ${this.kind.format(most)} at most`;
    });
    this.svg.setAttribute("aria-label", `${this.kind.title}, last 5 minutes: ${texts.join("; ")}`);
  }

  path(name, top) {
    let path = "";
    let last = null;
    for (const point of this.points) {
      if (point[name] === null) {
        last = null;
        continue;
      }
      const y = HEIGHT - 3 - (point[name] / top) * (HEIGHT - 6);
      const to = `${this.x(point).toFixed(1)} ${y.toFixed(1)}`;
      // A gap where nobody looked. A line to the same place makes a lonely point visible.
      const isNext = last !== null && point.time - last < (4 * PERIOD) / 1000;
      path += isNext ? `L${to}` : `M${to}L${to}`;
      last = point.time;
    }
    return path;
  }

  legend() {
    if (!this.points.length) return;
    let shown = this.points[this.points.length - 1];
    if (this.pointed !== null) {
      const distance = (point) => Math.abs(point.time - this.pointed);
      shown = this.points.reduce((a, b) => (distance(b) < distance(a) ? b : a));
    }
    this.kind.series.forEach(([name], i) => write(this.values[i], this.kind.format(shown[name])));
    write(this.when, this.pointed === null ? "now" : clock(shown.time));
    this.cursor.setAttribute("d", this.pointed === null ? "" : `M${this.x(shown)} 0V${HEIGHT}`);
  }
}

const clock = (time) => new Date(time * 1000).toLocaleTimeString();

// Pools

class Section {
  constructor() {
    this.element = byId("pool").content.firstElementChild.cloneNode(true);
    this.history = [];
    this.plots = PLOTS.map((kind) => new Plot(kind));
    const place = this.element.querySelector(".plots");
    place.append(...this.plots.map((plot) => plot.figure));
    place.hidden = false;
  }

  show(time, lastTime, bounds, alias, members) {
    const total = add(members.map((member) => member.pool));
    const pids = new Set(members.map((member) => member.process.pid)).size;
    const texts = { ...total, alias, processes: pids === 1 ? "1 process" : `${pids} processes` };
    for (const element of this.element.querySelectorAll("[data-field]")) {
      if (element.dataset.field !== "paused") write(element, texts[element.dataset.field]);
    }
    for (const element of this.element.querySelectorAll("[data-alarm]")) {
      element.classList.toggle("alarm", total[element.dataset.alarm] > 0);
    }
    this.element.querySelector("[data-field=paused]").hidden = !total.paused;
    const rows = members.map((member) => [label(member), ...figures(bounds, member.pool)]);
    fill(this.element.querySelector("[data-rows=processes]"), rows);
    fill(this.element.querySelector("[data-rows=total]"), [["All", ...figures(bounds, total)]]);
    this.element
      .querySelector(".scroll")
      .setAttribute("aria-label", `Processes with pool ${alias}`);

    const parts = members.map((member) => since(time, lastTime, member));
    this.history.push(point(time, bounds, total, parts));
    this.history = this.history.filter((old) => old.time >= time - KEPT && old.time <= time);
    for (const plot of this.plots) plot.draw(this.history);
  }
}

function label({ process, pool }) {
  const name = pool.name === pool.alias ? "" : ` (${pool.name})`;
  return `${process.pid} ${process.process}${name}${pool.paused ? ", paused" : ""}`;
}

function figures(bounds, pool) {
  const times = (kind) =>
    [0.5, 0.95, 1].map((part) =>
      milliseconds(percentile(bounds, pool[`${kind}_buckets`], part, pool[`${kind}_max`]))
    );
  return [
    `${pool.size}/${pool.max_size}`,
    pool.in_use,
    pool.idle,
    pool.waiting,
    pool.borrows,
    ...times("wait"),
    ...times("held"),
    pool.connects,
    pool.connect_errors + pool.exhausted,
  ];
}

// Everything

const sections = new Map();
let lastTime = null;

function show(seen) {
  const members = seen.processes.flatMap((process) =>
    (process.pools || []).map((pool) => ({ process, pool }))
  );
  const aliases = [...new Set(members.map((member) => member.pool.alias))].sort();
  const place = byId("pools");
  const shown = aliases.map((alias) => {
    if (!sections.has(alias)) sections.set(alias, new Section());
    const own = members.filter((member) => member.pool.alias === alias);
    sections.get(alias).show(seen.time, lastTime, seen.bounds, alias, own);
    return sections.get(alias).element;
  });
  if (shown.length !== place.children.length || shown.some((e, i) => e !== place.children[i])) {
    place.replaceChildren(...shown);
  }
  for (const [key, [time]] of before) if (time < seen.time - KEPT) before.delete(key);
  lastTime = seen.time;

  byId("none").hidden = aliases.length > 0;
  const silent = seen.processes.filter((process) => process.error);
  fillList(byId("silent"), silent.map((process) => `Process ${process.pid}: ${process.error}`));
  showAdvice(seen.advice);
  byId("no-holders").hidden = seen.holders.length > 0;
  fillTable(byId("holders"), seen.holders.map(holderRow));
  showServer(seen.server);
  write(byId("time"), clock(seen.time));
}

function showAdvice(advice) {
  byId("no-advice").hidden = advice.length > 0;
  const list = byId("advice");
  const text = JSON.stringify(advice);
  if (list.dataset.shown === text) return;
  list.dataset.shown = text;
  list.replaceChildren(
    ...advice.map((a) =>
      make("li", {}, make("b", {}, a.alias), `: ${a.text} `, make("small", {}, `(${a.rule})`))
    )
  );
}

function holderRow(holder) {
  return [
    holder.name === holder.alias ? holder.alias : `${holder.alias} (${holder.name})`,
    `${holder.pid} ${holder.process}`,
    holder.thread,
    seconds(holder.held),
    holder.pinned || NONE,
    holder.place,
  ];
}

function showServer(sides) {
  const known = sides.filter((side) => !side.error);
  byId("no-server").hidden = sides.length > 0;
  fillList(
    byId("server-errors"),
    sides
      .filter((side) => side.error)
      .map((side) => `${side.alias}: the server can't be asked: ${side.error}`)
  );
  fillTable(
    byId("server"),
    known.map((side) => [
      side.alias,
      side.ours,
      side.allowed,
      side.total,
      side.max_connections,
      side.idle_in_transaction,
      seconds(side.longest_idle_in_transaction_seconds),
      seconds(side.longest_transaction_seconds),
      side.version,
    ])
  );
  fillTable(
    byId("sessions"),
    known.flatMap((side) =>
      side.sessions.map((group) => [
        side.alias,
        group.host,
        group.application_name,
        group.state,
        group.count,
        seconds(group.longest_in_state_seconds),
        seconds(group.longest_transaction_seconds),
      ])
    )
  );
}

// Polling: one request at a time, none while nobody looks.

let timer = 0;
let busy = false;
let paused = false;
let period = PERIOD;

function say(text, isProblem = false) {
  write(byId("state"), text);
  byId("state").classList.toggle("problem", isProblem);
}

async function poll() {
  clearTimeout(timer);
  if (busy || paused || document.hidden) return;
  busy = true;
  try {
    const signal = AbortSignal.timeout(PATIENCE);
    const response = await fetch("stats.json", { cache: "no-store", redirect: "error", signal });
    if (response.status === 403) throw new Error("You are no longer logged in as staff");
    if (!response.ok) throw new Error(`The site answers with status ${response.status}`);
    show(await response.json());
    period = PERIOD;
    if (!paused) say("Live");
  } catch (error) {
    period = Math.min(period * 2, SLOWEST_PERIOD);
    const silent = ["TypeError", "TimeoutError"].includes(error.name);
    say(`${silent ? "The site doesn't answer" : error.message}; trying on`, true);
    console.error(error);
  } finally {
    busy = false;
    if (!paused && !document.hidden) timer = setTimeout(poll, period);
  }
}

function togglePause() {
  paused = !paused;
  write(byId("pause"), paused ? "Go on" : "Pause");
  if (paused) say("Paused");
  poll();
}

if (byId("pools")) {
  byId("refresh").hidden = true;
  byId("pause").hidden = false;
  byId("pause").addEventListener("click", togglePause);
  document.addEventListener("visibilitychange", poll);
  poll();
}
