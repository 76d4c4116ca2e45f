/* Keeps the dashboard's page up to date: fetches it repeatedly, replaces what has changed, and
   plots the figures in its attributes `data-...`. */
"use strict";

const PERIOD = 2000; // milliseconds between two polls
const SLOWEST_PERIOD = 30000; // while nobody answers
const PATIENCE = 15000;
const KEPT = 300; // seconds of history
const WIDTH = 300;
const HEIGHT = 100;
const NONE = "-";
const PARTS = [["p50", 0.5], ["p95", 0.95], ["p99", 0.99]];

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
  // Only if it changed: screen readers announce each status message once.
  if (element.textContent !== String(text)) element.textContent = text;
}

function patch(old, fresh) {
  // Only what changed, so that selected text and the focus stay.
  if (old.isEqualNode(fresh) || old.dataset?.own !== undefined) return;
  if (old.nodeName !== fresh.nodeName || !old.attributes) {
    old.replaceWith(fresh);
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) old.setAttribute(name, value);
  const [olds, freshs] = [[...old.childNodes], [...fresh.childNodes]];
  freshs.forEach((node, i) => (i < olds.length ? patch(olds[i], node) : old.append(node)));
  olds.slice(freshs.length).forEach((node) => node.remove());
}

// Figures

function percentile(bounds, { buckets, max }, fraction) {
  const count = sum(buckets);
  if (!count) return null;
  const wanted = fraction * count;
  let below = 0;
  for (let i = 0; i < buckets.length; i++) {
    if (buckets[i] && below + buckets[i] >= wanted) {
      const low = i ? bounds[i - 1] : 0;
      const high = i < bounds.length ? Math.min(bounds[i], max) : max;
      return low + (Math.max(0, high - low) * (wanted - below)) / buckets[i];
    }
    below += buckets[i];
  }
  return max;
}

// The last figures of each pool of each process: [when, pool].
const before = new Map();
let lastTime = null;

function since(time, alias, pool) {
  // What happened in one pool since the last look, and how long ago that was.
  const key = JSON.stringify([alias, pool.key]);
  const [then, earlier] = before.get(key) || [lastTime, null];
  before.set(key, [time, pool]);
  const isNew = lastTime !== null && pool.started > lastTime;
  const difference = (now, was) => (earlier ? Math.max(0, now - was) : isNew ? now : 0);
  const durations = (of) => ({
    max: pool[of].max,
    buckets: pool[of].buckets.map((n, i) => difference(n, earlier?.[of].buckets[i])),
  });
  return {
    borrows: difference(pool.borrows, earlier?.borrows),
    elapsed: then === null ? 0 : time - then,
    wait: durations("wait"),
    held: durations("held"),
  };
}

function point(time, bounds, section, parts) {
  const p = { time };
  for (const name of ["in_use", "waiting", "size", "max_size"]) p[name] = Number(section[name]);
  const timed = parts.filter((part) => part.elapsed > 0);
  p.rate = timed.length ? sum(timed.map((part) => part.borrows / part.elapsed)) : null;
  for (const of of ["wait", "held"]) {
    const buckets = parts[0][of].buckets.map((_, i) => sum(parts.map((part) => part[of].buckets[i])));
    const max = Math.max(...parts.map((part) => part[of].max));
    for (const [label, part] of PARTS) {
      const value = percentile(bounds, { buckets, max }, part);
      p[`${of}_${label}`] = value === null ? null : value * 1000;
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
    // The first series is drawn on top.
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
      // A gap where nobody looked. A line to the same place makes an isolated point visible.
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

// By alias: its figures so far, and its plots.
const histories = new Map();

function plot() {
  const { time, bounds } = Object.fromEntries(
    Object.entries(byId("seen").dataset).map(([name, text]) => [name, JSON.parse(text)])
  );
  for (const element of document.querySelectorAll(".pool")) {
    const { alias, pools } = element.dataset;
    if (!histories.has(alias)) {
      histories.set(alias, { points: [], plots: PLOTS.map((kind) => new Plot(kind)) });
    }
    const history = histories.get(alias);
    const parts = JSON.parse(pools).map((pool) => since(time, alias, pool));
    history.points.push(point(time, bounds, element.dataset, parts));
    history.points = history.points.filter((p) => p.time >= time - KEPT && p.time <= time);
    // These may be another alias's: the order of aliases may have changed.
    const place = element.querySelector(".plots");
    const figures = history.plots.map((each) => each.figure);
    if (place.firstChild !== figures[0]) place.replaceChildren(...figures);
    place.hidden = false;
    for (const each of history.plots) each.draw(history.points);
  }
  for (const [key, [then]] of before) if (then < time - KEPT) before.delete(key);
  lastTime = time;
  write(byId("time"), clock(time));
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
    const response = await fetch("", { cache: "no-store", redirect: "manual", signal });
    const isRefused = response.type === "opaqueredirect" || response.status === 403;
    if (isRefused) throw new Error("You are no longer logged in as staff");
    if (!response.ok) throw new Error(`The site answered with status ${response.status}`);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const seen = page.getElementById("seen");
    if (!seen) throw new Error("The site answered with another page");
    patch(byId("seen"), seen);
    plot();
    period = PERIOD;
    if (!paused) say("Live");
  } catch (error) {
    period = Math.min(period * 2, SLOWEST_PERIOD);
    const silent = ["TypeError", "TimeoutError"].includes(error.name);
    say(`${silent ? "The site doesn't answer" : error.message}; retrying`, true);
    console.error(error);
  } finally {
    busy = false;
    if (!paused && !document.hidden) timer = setTimeout(poll, period);
  }
}

function togglePause() {
  paused = !paused;
  write(byId("pause"), paused ? "Resume" : "Pause");
  if (paused) say("Paused");
  poll();
}

if (byId("seen")) {
  byId("refresh").hidden = true;
  byId("pause").hidden = false;
  byId("pause").addEventListener("click", togglePause);
  document.addEventListener("visibilitychange", poll);
  plot();
  say("Live");
  timer = setTimeout(poll, PERIOD);
}
