// How uPlot draws a graph: axes, lines and colours.

import { make } from "./page.js";

const HEIGHT = 150;
const DASHES = [[], [6, 3], [2, 3], [9, 3, 2, 3]]; // nodes differ in more than their colour
const COLOURS = 6;

// What marks the line of the node with that number in words beside it.
export function keyOf(i) {
  const key = make("span", `key series-${i % COLOURS}`);
  key.dataset.dash = i % DASHES.length;
  return key;
}

export function sizeIn(canvas) {
  return { width: canvas.clientWidth || 300, height: HEIGHT };
}

// `lines`: how many; `shownTimes()`: from when to when; `placeCursor(plot, left)`: where the cursor
// is to be instead of there; `onPoint(index)`: told which sample is pointed at, null if none is.
export function optionsOf(graph, lines, canvas, { shownTimes, placeCursor, onPoint }) {
  const axis = { stroke: () => colour("--muted"), font: "12px system-ui, sans-serif" };
  const grid = { stroke: () => colour("--rule"), width: 1 };
  return {
    ...sizeIn(canvas),
    padding: [14, 8, 0, 0],
    legend: { show: false },
    cursor: {
      drag: { x: false, y: false },
      y: false,
      move: (plot, left, top) => [placeCursor(plot, left), top],
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
    series: [{}, ...Array.from({ length: lines }, (_, i) => line(i, graph))],
    hooks: { setCursor: [(plot) => onPoint(plot.cursor.idx ?? null)] },
  };
}

function line(i, graph) {
  return {
    stroke: () => colour(`--series-${i % COLOURS}`),
    dash: DASHES[i % DASHES.length],
    width: 1.75,
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

function hourAndMinute(time) {
  return new Date(1000 * time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
