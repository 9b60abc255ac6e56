// Where the figures come from: the node's event stream and, where that is not to be had, a question
// every five seconds.

const REFRESH_MS = 5000;
const TIMEOUT_MS = 4500;
const SILENT_MS = 12000; // a stream that said nothing for so long has broken, whatever it claims
const STREAM_AGAIN_MS = 30000; // after the node refused a stream

export async function ask(address, options = {}) {
  const response = await fetch(address, {
    cache: "no-store",
    signal: AbortSignal.timeout(TIMEOUT_MS),
    ...options,
  });
  // A node that is not ready says so with 503 and tells its health all the same.
  const document = await response.json();
  if (!response.ok && document.checks === undefined) throw new Error(document.detail);
  return document;
}

export class Feed {
  #show; // told of each answer: state, event, silence
  #source = null;
  #heard = 0; // when the stream last said something
  #timer = 0;
  #streamTimer = 0;
  #asking = false;
  #since = () => 0;

  // `show` has `state({cluster, health, history}, live)`, `events(list)` and `silence(error)`;
  // `since` tells from when on history is wanted.
  constructor(show, since) {
    this.#show = show;
    this.#since = since;
  }

  start() {
    this.refresh();
    this.#open();
  }

  // Nobody looks: ask nothing, and leave the place to others.
  stop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#streamTimer);
    this.#close();
  }

  get live() {
    return this.#source !== null && Date.now() - this.#heard < SILENT_MS;
  }

  async refresh() {
    if (this.#asking) return;
    this.#asking = true;
    clearTimeout(this.#timer);
    try {
      const [cluster, health, history, latest] = await Promise.all([
        ask("/api/cluster"),
        ask("/api/health"),
        ask(`/api/history?since=${this.#since()}`),
        ask("/api/events"),
      ]);
      // The stream tells events, and behind a balancer another node may have answered.
      if (!this.live) this.#show.events(latest.events);
      this.#show.state({ cluster, health, history }, this.live);
    } catch (error) {
      this.#show.silence(error);
    } finally {
      this.#asking = false;
      this.#askAgain();
    }
  }

  #askAgain() {
    clearTimeout(this.#timer);
    if (document.visibilityState !== "visible") return;
    this.#timer = setTimeout(() => {
      if (this.live) return this.#askAgain();
      // A machine that slept may have a stream that is open and silent for ever.
      if (this.#source?.readyState === EventSource.OPEN) this.#open();
      return this.refresh();
    }, REFRESH_MS);
  }

  #open() {
    this.#close();
    const source = new EventSource("/api/events/stream");
    source.addEventListener("open", () => {
      this.#heard = Date.now();
    });
    source.addEventListener("state", (message) => {
      this.#heard = Date.now();
      this.#show.state(JSON.parse(message.data), true);
    });
    source.addEventListener("event", (message) => {
      this.#heard = Date.now();
      this.#show.events([JSON.parse(message.data)]);
    });
    source.addEventListener("error", () => {
      this.#heard = 0;
      if (source.readyState === EventSource.CLOSED) this.#openLater();
      this.refresh(); // is it the stream, or the node?
    });
    this.#source = source;
  }

  #openLater() {
    clearTimeout(this.#streamTimer);
    this.#streamTimer = setTimeout(() => this.#open(), STREAM_AGAIN_MS);
  }

  #close() {
    this.#source?.close();
    this.#source = null;
    this.#heard = 0;
  }
}
