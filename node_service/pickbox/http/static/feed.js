// Where the figures come from: the node's event stream and, where that is not to be had, a question
// every five seconds.

import { ask } from "./requests.js";

const REFRESH_MS = 5000;
const SILENT_MS = 12000; // a stream that said nothing for so long has broken, whatever it claims
const STREAM_AGAIN_MS = 30000; // after a stream was refused, or said nothing

export class Feed {
  #show; // told of each answer: state, event, silence
  #source = null;
  #opened = 0; // when the stream was asked for
  #heard = null; // when it last said something; null if it has said nothing yet
  #timer = 0;
  #streamTimer = 0;
  #asking = false;
  #wanted = false; // asked for while a question was out, whose answer may be of before
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
    this.#wanted = false;
    this.#close();
  }

  // Whether messages come. That the stream is open says nothing: a proxy may keep what is in it.
  get live() {
    return this.#heard !== null && performance.now() - this.#heard < SILENT_MS;
  }

  async refresh() {
    this.#wanted = this.#asking;
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
      if (!this.live) this.#show.silence(error); // else it has just told how it is, and will again
    } finally {
      this.#asking = false;
      if (this.#wanted) this.refresh();
      else this.#askAgain();
    }
  }

  #askAgain() {
    clearTimeout(this.#timer);
    if (document.visibilityState !== "visible") return;
    this.#timer = setTimeout(() => {
      if (this.live) return this.#askAgain();
      this.#giveUpSilence();
      return this.refresh();
    }, REFRESH_MS);
  }

  // A machine that slept may have a stream that is open and silent for ever; one that has never
  // said anything will not do so the next time either.
  #giveUpSilence() {
    const since = this.#heard ?? this.#opened;
    if (this.#source === null || performance.now() - since < SILENT_MS) return;
    if (this.#heard !== null) this.#open();
    else {
      this.#close();
      this.#openLater();
    }
  }

  #open() {
    this.#close();
    this.#opened = performance.now();
    const source = new EventSource("/api/events/stream");
    const hear = (act) => (message) => {
      this.#heard = performance.now();
      act(JSON.parse(message.data));
    };
    source.addEventListener("state", hear((state) => this.#show.state(state, true)));
    source.addEventListener("event", hear((event) => this.#show.events([event])));
    source.addEventListener("error", () => {
      this.#opened = performance.now();
      this.#heard = null;
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
    clearTimeout(this.#streamTimer);
    this.#source?.close();
    this.#source = null;
    this.#heard = null;
  }
}
