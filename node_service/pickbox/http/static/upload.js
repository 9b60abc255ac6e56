// One upload: its item in the list, what is said of it, and what can be done about it.

import { aboutFile, bytes, percent } from "./format.js";
import { button, make, part, tone, write } from "./page.js";
import { addressOf, encodedPath, visible } from "./paths.js";
import { entryAt, newKey } from "./requests.js";
import { Sending } from "./sending.js";

const encoder = new TextEncoder();
const IF_NOTHING_IS_THERE = { "If-None-Match": "*" };

export class Upload {
  #file;
  #path; // percent-encoded
  #name;
  #headers;
  #enqueue; // has `run` called when it is this one's turn
  #stored; // told when the file is stored
  #sending = null;
  #bar = make("progress");
  #said = make("span", "said");
  #choices = make("span", "choices");

  constructor(file, directory, enqueue, stored) {
    this.#file = file;
    this.#name = visible(file.name);
    const encoded = encodedPath(encoder.encode(file.name));
    this.#path = directory ? `${directory}/${encoded}` : encoded;
    this.#enqueue = enqueue;
    this.#stored = stored;
    this.#bar.ariaLabel = `Upload of ${this.#name}`;
    const shown = make("span", "name", this.#name);
    this.item = make("li", "", shown, this.#bar, this.#said, this.#choices);
    this.unfinished = false;
  }

  // Nothing is replaced unasked.
  begin() {
    const largest = Number(part("files").dataset.largest);
    if (this.#file.size <= largest) return this.#wait(IF_NOTHING_IS_THERE);
    this.refuse(`has ${bytes(this.#file.size)}; this node takes up to ${bytes(largest)}`);
  }

  // It cannot be sent at all.
  refuse(why) {
    this.#end(why, "bad");
  }

  async run() {
    if (!this.unfinished) return; // cancelled before its turn came
    this.#progress(0, this.#file.size);
    try {
      const answer = await this.#put();
      if (answer.status === 412) await this.#askToReplace();
      else if (answer.status >= 400) this.#refused(answer);
      else {
        this.#end("stored", "ok");
        this.#stored();
      }
    } catch (error) {
      if (error.type === "abort") this.#end("cancelled", "idle");
      else if (this.unfinished) {
        this.#askToRepeat(error.message ?? "could not be sent: the node did not answer");
      }
    }
  }

  #wait(condition) {
    // Under one key: what was stored although the answer was lost is not stored a second time.
    this.#headers = { ...condition, "Idempotency-Key": newKey() };
    this.#again();
  }

  #again() {
    this.unfinished = true;
    this.#say("waits", "idle");
    this.#offer({ Cancel: () => this.#cancel() });
    this.#enqueue(this);
  }

  #cancel() {
    if (this.#sending) this.#sending.abort();
    else this.#end("cancelled", "idle");
  }

  #refused({ status, document }) {
    const why = document?.detail ?? `was refused with status ${status}`;
    if (status >= 500) this.#askToRepeat(why);
    else this.#end(why, "bad");
  }

  // What is replaced is the version that is told of, and no later one.
  async #askToReplace() {
    const news = this.#headers["If-Match"] ? "was changed meanwhile" : "is there already";
    const there = await entryAt(this.#path);
    if (!this.unfinished) return; // cancelled meanwhile
    if (there === null) {
      this.#stop("was there, and is gone by now", "warn");
      this.#offer({
        "Upload it": () => this.#wait(IF_NOTHING_IS_THERE),
        Dismiss: () => this.#end("not uploaded", "idle"),
      });
      return;
    }
    const told = there.kind === "file" ? `: ${aboutFile(there)}` : `, as a ${there.kind}`;
    this.#stop(`${news}${told}`, "warn");
    this.#offer({
      "Replace it": () => this.#wait({ "If-Match": `"${there.version}"` }),
      "Keep it": () => this.#end("left as it was", "idle"),
    });
  }

  #askToRepeat(why) {
    this.#stop(why, "bad");
    this.#offer({
      "Try again": () => this.#again(),
      Dismiss: () => this.#end("not uploaded", "idle"),
    });
  }

  #end(text, name) {
    this.#stop(text, name);
    this.#offer({});
    this.item.dataset.ended = "";
  }

  #stop(text, name) {
    this.unfinished = false;
    this.#say(text, name);
    // How far it is changes too often to be read out; what became of it is.
    write(part("uploads-said"), `${this.#name}: ${text}`);
  }

  #say(text, name) {
    this.#bar.hidden = true;
    write(this.#said, text);
    tone(this.item, name);
  }

  #progress(loaded, total) {
    const done = total ? loaded / total : 0;
    const far = `${percent(100 * done)} of ${bytes(total)}`;
    this.#say(done < 1 ? far : "sent; is being stored", "idle");
    this.#bar.hidden = false;
    this.#bar.value = done;
  }

  // Buttons, each named for its file too: there may be many of a kind.
  #offer(answers) {
    // The one that was pressed goes, and the focus is not to go with it.
    if (this.#choices.contains(document.activeElement)) part("upload").focus();
    this.#choices.replaceChildren(
      ...Object.entries(answers).map(([text, act]) => {
        const choice = button("", text, act);
        choice.ariaLabel = `${text}: ${this.#name}`;
        return choice;
      }),
    );
  }

  async #put() {
    const headers = {
      "Content-Type": "application/octet-stream",
      "X-Pickbox-Mtime": `${this.#file.lastModified}000000`,
      ...this.#headers,
    };
    const progress = (loaded, total) => this.#progress(loaded, total);
    this.#sending = new Sending();
    try {
      return await this.#sending.send(this.#file, addressOf(this.#path), headers, progress);
    } finally {
      this.#sending = null;
    }
  }
}
