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
let drawn = []; // {graph, figure, plot, values}
let pointed = null; // index of the sample that is read; null for the newest

export function setUpGraphs(of) {
  history = of;
  part("ranges").append(...RANGES.map(([text, range]) => rangeButton(text, range)));
  part("graph-time").addEventListener("input", pointBySlider);
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
    values.append(make("li", "", keyOf(i), make("span", "", node), make("b", "", "–")));
  }
  const options = optionsOf(graph, nodes.length, canvas, shownTimes, point);
  const plot = new uPlot(options, dataOf(graph.figure), canvas);
  const watcher = new ResizeObserver(() => plot.setSize(sizeIn(canvas)));
  watcher.observe(canvas);
  return { graph, figure: graph.figure, plot, values, watcher };
}

// The chosen range, or what there is of it.
function shownTimes() {
  const last = history.times.at(-1);
  return [Math.max(last - seconds, Math.min(history.times[0], last - LEAST_SECONDS)), last];
}

// The samples of the chosen range, and the one before it, so that lines begin at the edge.
function dataOf(figure) {
  const { times } = history;
  const start = Math.max(0, times.findIndex((time) => time >= times.at(-1) - seconds) - 1);
  return [times.slice(start), ...nodes.map((node) => history.nodes[node][figure].slice(start))];
}

function point(index) {
  if (index === pointed) return;
  pointed = index;
  sayValues();
}

// By keyboard and by touch: the slider points at a sample in all graphs, and at its end at none.
function pointBySlider() {
  const index = Number(part("graph-time").value);
  for (const { plot } of drawn) {
    const time = plot.data[0][index];
    const newest = index === plot.data[0].length - 1;
    plot.setCursor({ left: newest ? -10 : plot.valToPos(time, "x"), top: 0 });
  }
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
  const times = drawn[0]?.plot.data[0] ?? [];
  const time = pointed === null ? null : times[pointed];
  const at = time ? `at ${clock(new Date(1000 * time))}` : "now";
  write(part("graphs-at"), at);
  const slider = part("graph-time");
  slider.max = Math.max(0, times.length - 1);
  slider.value = pointed ?? slider.max;
  slider.ariaValueText = at;
}
