// The samples that the node keeps, as far as this page has them.

const KEPT = 720;
const ASTRAY_SECONDS = 60; // further than that, clocks of nodes are not apart
const BARREN_MS = 30000; // with no sample for so long, the node's clock may have been put back

export class History {
  #seconds = 5;
  #grown = performance.now(); // when the last sample came
  times = [];
  nodes = {}; // node id -> figure -> a value a time; null is not known

  // The whole second before the last sample: from there on more is wanted. By a clock that was put
  // back nothing is later than that.
  get since() {
    if (performance.now() - this.#grown > BARREN_MS) return 0;
    return this.times.length ? Math.floor(this.times.at(-1)) : 0;
  }

  // Takes in what is later than the last sample; false if more is to be asked for first: `complete`
  // says that this is all there is. Behind a balancer another node may tell: each has samples of
  // all.
  add(told, complete = false) {
    this.#seconds = told.seconds;
    if (this.times.at(-1) - told.times.at(-1) > ASTRAY_SECONDS) this.#forget();
    if (!this.times.length && !complete && told.times.length === 1) return false;
    const last = this.times.at(-1) ?? 0;
    const first = told.times.findIndex((time) => time > last);
    if (first < 0) return true;
    if (this.#isLate(told.times[first]) && !complete && told.times.length === 1) return false;
    for (let i = first; i < told.times.length; i += 1) this.#append(told, i);
    this.#grown = performance.now();
    this.#trim();
    return true;
  }

  // What the newest sample says, by node.
  latest() {
    const readings = {};
    for (const [node, figures] of Object.entries(this.nodes)) {
      readings[node] = {};
      for (const [name, values] of Object.entries(figures)) readings[node][name] = values.at(-1);
    }
    return readings;
  }

  // Whether that node was heard at that sample; a figure may still be of something that did not
  // happen then.
  isKnown(node, i) {
    return this.nodes[node].memory_bytes[i] !== null;
  }

  // The node's clock was put back, and what came after is no more.
  #forget() {
    this.times = [];
    this.nodes = {};
  }

  // Whether there is no sample of some time before this one.
  #isLate(time) {
    return this.times.length > 0 && time - this.times.at(-1) >= 2.5 * this.#seconds;
  }

  #append(told, i) {
    if (this.#isLate(told.times[i])) this.#appendNothing();
    this.times.push(told.times[i]);
    for (const [node, figures] of Object.entries(told.nodes)) {
      this.nodes[node] ??= {};
      for (const name of Object.keys(figures)) {
        this.nodes[node][name] ??= Array(this.times.length - 1).fill(null);
      }
    }
    for (const [node, figures] of Object.entries(this.nodes)) {
      for (const [name, values] of Object.entries(figures)) {
        values.push(told.nodes[node]?.[name]?.[i] ?? null);
      }
    }
  }

  // A sample in which nothing is known, so that no line leads through that time.
  #appendNothing() {
    this.times.push(this.times.at(-1) + this.#seconds);
    for (const figures of Object.values(this.nodes)) {
      for (const values of Object.values(figures)) values.push(null);
    }
  }

  #trim() {
    const surplus = this.times.length - KEPT;
    if (surplus <= 0) return;
    this.times.splice(0, surplus);
    for (const [node, figures] of Object.entries(this.nodes)) {
      for (const values of Object.values(figures)) values.splice(0, surplus);
      if (Object.values(figures).every((values) => values.every((value) => value === null))) {
        delete this.nodes[node]; // it left the cluster an hour ago
      }
    }
  }
}
