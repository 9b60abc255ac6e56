// The graphs: a small one of each figure, a line a node, drawn by uPlot (vendor/uplot).

import { bytes, clock, count, percent, rate, shortTime } from "./format.js";
import { button, make, part, write } from "./page.js";
import { keyOf, optionsOf, sizeIn } from "./plotting.js";

const { uPlot } = globalThis;
const LEAST_SECONDS = 120; // shown while the node has no longer history
const RANGES = [
  ["15 minutes", 900],
  ["1 hour", 3600],
];
const GRAPHS = [
  { figure: "commits_per_second", title: "Commits", say: rate, least: 1 },
  {
    figure: "bytes_per_second",
    title: "Content received",
    say: (v) => `${bytes(v)}/s`,
    least: 1024,
    binary: true,
  },
  {
    figure: "replication_seconds",
    title: "Replication time",
    say: shortTime,
    least: 0.01,
    sparse: true,
  },
  {
    figure: "lag",
    title: "Entries behind",
    say: (v) => count(Math.round(v)),
    least: 10,
    whole: true,
  },
  { figure: "cpu_percent", title: "CPU, of one processor", say: percent, least: 10 },
  { figure: "memory_bytes", title: "Memory", say: bytes, binary: true },
  { figure: "disk_used_percent", title: "Disk in use", say: percent, top: 100 },
];

let seconds = RANGES[0][1];
let history = null;
let nodes = []; // ids, in the order of their lines
let drawn = []; // {graph, plot, values, watcher}
let pointed = null; // index of the sample at the cursor; null for none, which reads the newest
let held = null; // the time that the slider points at, until the mouse points elsewhere

export function setUpGraphs(of) {
  history = of;
  part("ranges").append(...RANGES.map(([text, range]) => rangeButton(text, range)));
  part("graph-time").addEventListener("input", pointBySlider);
  for (const kind of ["mousemove", "mousedown"]) part("graphs").addEventListener(kind, letGo, true);
  const again = () => drawn.forEach(({ plot }) => plot.redraw(false, true));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  matchMedia("(prefers-contrast: more)").addEventListener("change", again);
}

export function drawGraphs() {
  const present = Object.keys(history.nodes).sort();
  if (history.times.length === 0) return;
  if (present.join() !== nodes.join()) build(present);
  for (const each of drawn) each.plot.setData(dataOf(each.graph));
  sayValues();
}

function rangeButton(text, range) {
  const chosen = button("", text, () => {
    seconds = range;
    for (const other of part("ranges").children) other.ariaPressed = String(other === chosen);
    drawGraphs();
  });
  chosen.ariaPressed = String(range === seconds);
  return chosen;
}

function build(present) {
  nodes = present;
  for (const { plot, watcher } of drawn) {
    watcher.disconnect();
    plot.destroy();
  }
  part("graphs").replaceChildren();
  drawn = GRAPHS.map(buildOne);
}

function buildOne(graph) {
  const title = make("h3", "", graph.title);
  const values = make("ul", "values");
  const canvas = make("div", "canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${graph.title} over time; the figures are above it`);
  part("graphs").append(make("figure", "graph", make("figcaption", "", title, values), canvas));
  for (const [i, node] of nodes.entries()) {
    values.append(make("li", "", keyOf(i), make("span", "", node), make("b", "", "–")));
  }
  const told = { shownTimes, placeCursor, onPoint: point };
  const options = optionsOf(graph, nodes.length, canvas, told);
  const plot = new uPlot(options, dataOf(graph), canvas);
  const watcher = new ResizeObserver(() => plot.setSize(sizeIn(canvas)));
  watcher.observe(canvas);
  return { graph, plot, values, watcher };
}

// The chosen range, or what there is of it.
function shownTimes() {
  const last = history.times.at(-1);
  return [Math.max(last - seconds, Math.min(history.times[0], last - LEAST_SECONDS)), last];
}

// The samples of the chosen range, and the one before it, so that lines begin at the edge.
function dataOf(graph) {
  const { times } = history;
  const start = Math.max(0, times.findIndex((time) => time >= times.at(-1) - seconds) - 1);
  const lines = nodes.map((node) => valuesOf(node, graph).slice(start));
  return [times.slice(start), ...lines];
}

// Lines lead through what is undefined, and end at null: where nothing is known.
function valuesOf(node, { figure, sparse }) {
  const values = history.nodes[node][figure];
  if (!sparse) return values;
  return values.map((value, i) => (value === null && history.isKnown(node, i) ? undefined : value));
}

function point(index) {
  if (index === pointed) return;
  pointed = index;
  sayValues();
}

// By keyboard and by touch: the slider points at a sample in all graphs, and at its end at none.
function pointBySlider() {
  const { value, max } = part("graph-time");
  held = value === max ? null : drawn[0].plot.data[0][Number(value)];
  for (const { plot } of drawn) plot.setCursor({ left: -10, top: 0 });
}

function letGo() {
  held = null;
}

// Graphs move on below a cursor: what the slider points at stays the same for as long as it is shown.
function placeCursor(plot, left) {
  if (held === null) return left;
  const times = plot.data[0];
  return plot.valToPos(times[indexRead(times)], "x");
}

function indexRead(times) {
  if (held === null) return pointed;
  return Math.max(
    firstShown(times),
    times.findIndex((time) => time >= held),
  );
}

// Not the sample before the edge, at which no cursor can be.
function firstShown(times) {
  const [start] = shownTimes();
  return times.findIndex((time) => time >= start);
}

// In words: what the lines say at the pointer or, without one, at their end.
function sayValues() {
  const times = drawn[0]?.plot.data[0] ?? [];
  const index = indexRead(times);
  for (const { plot, graph, values } of drawn) {
    for (const [i, item] of [...values.children].entries()) {
      const column = plot.data[i + 1];
      const value = index === null ? column.at(-1) : column[index];
      write(item.lastElementChild, value == null ? "–" : graph.say(value));
    }
  }
  const time = index === null ? null : times[index];
  const at = time ? `at ${clock(new Date(1000 * time))}` : "now";
  write(part("graphs-at"), at);
  const slider = part("graph-time");
  slider.min = Math.max(0, firstShown(times));
  slider.max = Math.max(0, times.length - 1);
  slider.value = index ?? slider.max;
  slider.ariaValueText = at;
}
