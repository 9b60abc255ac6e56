// The graphs: a small one of each figure, a line a node, drawn by uPlot (vendor/uplot).

import { bytes, count, percent, rate, shortTime } from "./format.js";
import { button, make, part, write } from "./page.js";

const { uPlot } = globalThis;
const HEIGHT = 150;
const LEAST_SECONDS = 120; // shown while the node has no longer history
const RANGES = [
  ["15 minutes", 900],
  ["1 hour", 3600],
];
const DASHES = [[], [6, 3], [2, 3], [9, 3, 2, 3]]; // nodes differ in more than their colour
const COLOURS = 6;
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
let drawn = []; // {graph, figure, plot, values}
let pointed = null; // index of the sample under the pointer

export function setUpGraphs(of) {
  history = of;
  part("ranges").append(...RANGES.map(([text, range]) => rangeButton(text, range)));
  const again = () => drawn.forEach(({ plot }) => plot.redraw(false, true));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  matchMedia("(prefers-contrast: more)").addEventListener("change", again);
}

export function drawGraphs() {
  const present = Object.keys(history.nodes).sort();
  if (history.times.length === 0) return;
  if (present.join() !== nodes.join()) build(present);
  for (const each of drawn) each.plot.setData(dataOf(each.figure));
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
    const key = make("span", `key series-${i % COLOURS}`);
    key.dataset.dash = i % DASHES.length;
    values.append(make("li", "", key, make("span", "", node), make("b", "", "–")));
  }
  const plot = new uPlot(options(graph, canvas), dataOf(graph.figure), canvas);
  const watcher = new ResizeObserver(() => {
    plot.setSize({ width: canvas.clientWidth, height: HEIGHT });
  });
  watcher.observe(canvas);
  return { graph, figure: graph.figure, plot, values, watcher };
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function options(graph, canvas) {
  const axis = { stroke: () => colour("--muted"), font: "12px system-ui, sans-serif" };
  const grid = { stroke: () => colour("--rule"), width: 1 };
  return {
    width: canvas.clientWidth || 300,
    height: HEIGHT,
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: {
      drag: { x: false, y: false },
      y: false,
      sync: { key: "history" },
      points: { size: 6 },
    },
    scales: {
      x: { range: shownTimes },
      y: { range: (_, low, high) => [0, graph.top ?? ceiling(high, graph)] },
    },
    axes: [
      {
        ...axis,
        grid,
        ticks: grid,
        size: 28,
        space: 70,
        values: (_, times) => times.map(hourAndMinute),
      },
      {
        ...axis,
        grid,
        ticks: grid,
        size: 74,
        space: 34,
        incrs: steps(graph),
        values: (_, ticks) => ticks.map((tick) => graph.say(tick).replace(/\.0(?= |$)/, "")),
      },
    ],
    series: [{}, ...nodes.map((_, i) => line(i, graph))],
    hooks: { setCursor: [(plot) => point(plot.cursor.idx)] },
  };
}

function line(i, graph) {
  return {
    stroke: () => colour(`--series-${i % COLOURS}`),
    dash: DASHES[i % DASHES.length],
    width: 1.75,
    spanGaps: Boolean(graph.sparse),
    points: { show: Boolean(graph.sparse), size: 4 },
  };
}

// Steps of an axis of bytes are powers of two, or its marks would not be whole.
function steps(graph) {
  if (graph.binary) return Array.from({ length: 50 }, (_, i) => 2 ** i);
  const least = graph.whole ? 0 : -4;
  return Array.from({ length: 14 }, (_, i) => [1, 2, 5].map((n) => n * 10 ** (i + least))).flat();
}

// A quiet figure is not to look like a busy one: the axis has a least height.
function ceiling(high, graph) {
  return Math.max((high ?? 0) * 1.15, graph.least ?? 0.001);
}

// The chosen range, or what there is of it.
function shownTimes() {
  const last = history.times.at(-1);
  return [Math.max(last - seconds, Math.min(history.times[0], last - LEAST_SECONDS)), last];
}

function hourAndMinute(time) {
  return new Date(1000 * time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

// The samples of the chosen range, and the one before it, so that lines begin at the edge.
function dataOf(figure) {
  const { times } = history;
  const start = Math.max(0, times.findIndex((time) => time >= times.at(-1) - seconds) - 1);
  return [times.slice(start), ...nodes.map((node) => history.nodes[node][figure].slice(start))];
}

function point(index) {
  const now = index ?? null;
  if (now === pointed) return;
  pointed = now;
  sayValues();
}

// In words: what the lines say at the pointer or, without one, at their end.
function sayValues() {
  for (const { plot, graph, values } of drawn) {
    for (const [i, item] of [...values.children].entries()) {
      const column = plot.data[i + 1];
      const value = pointed === null ? column.at(-1) : column[pointed];
      write(item.lastElementChild, value == null ? "–" : graph.say(value));
    }
  }
  const time = pointed === null ? null : drawn[0]?.plot.data[0][pointed];
  const at = time ? `at ${new Date(1000 * time).toLocaleTimeString()}` : "now";
  write(part("graphs-at"), at);
}
