// Settling one conflict: what a person keeps has the file's own name then, and the other one goes.
// Nothing is done to a version that the person has not seen: each step names those it is meant for.

import { aboutFile } from "./format.js";
import { button, make } from "./page.js";
import { addressOf, base64Of, visible } from "./paths.js";
import { documentOf, entryAt, newKey } from "./requests.js";

const WRITE_MS = 30000;
const JSON_BODY = { "Content-Type": "application/json" };
const CHANGED = "Something was changed meanwhile. This is how it is now:";
const FAREWELL =
  "What you do not keep goes from the folder on every node, into its versions for a while.";

export class Settling {
  #conflict; // {copy, original, name}; the first two are percent-encoded paths
  #end; // told what was done, or nothing if nothing was
  #busy = false;
  #said = make("div", "said");
  #choices = make("div", "choices");

  constructor(conflict, end) {
    this.#conflict = conflict;
    this.#end = end;
    this.element = make("div", "settling", this.#said, this.#choices);
    this.element.role = "group";
    this.element.ariaLabel = `Settle the conflict of ${visible(conflict.name)}`;
    this.element.tabIndex = -1;
    this.#said.role = "status";
    this.#look("");
  }

  async #look(news) {
    const { copy, original } = this.#conflict;
    try {
      const found = await Promise.all([entryAt(copy), entryAt(original)]);
      this.#offer(...found, news);
    } catch (error) {
      this.#ask(`They could not be read: ${error.message}`, []);
    }
    this.element.focus();
  }

  #offer(copy, current, news) {
    const name = visible(this.#conflict.name);
    if (copy === null) return this.#end(`${name} is settled already.`);
    const replace = () => this.#keepCopy(copy, current);
    const told = [news, `The copy: ${aboutFile(copy)}.`];
    if (current === null) {
      told.push(`Nothing has the name ${name} any more.`);
      return this.#ask(told, [[`Put the copy back as ${name}`, replace]]);
    }
    if (current.kind !== "file") {
      told.push(`${name} is no file any more, and stays. Give the copy another name.`);
      return this.#ask(told, []);
    }
    told.push(`The current one: ${aboutFile(current)}.`);
    told.push(copy.digest === current.digest ? "They are the same, byte for byte." : FAREWELL);
    return this.#ask(told, [
      ["Keep the current one", () => this.#keepCurrent(copy, current)],
      ["Keep the copy", replace],
    ]);
  }

  #ask(told, answers) {
    const lines = [told].flat().filter(Boolean);
    this.#said.replaceChildren(...lines.map((line) => make("p", "", line)));
    this.#choices.replaceChildren(
      ...answers.map(([text, act]) => button("", text, () => this.#act(act))),
      button("", "Cancel", () => this.#end()),
    );
  }

  async #act(act) {
    if (this.#busy) return;
    this.#busy = true;
    try {
      await act();
    } catch {
      this.#end("The node did not answer; look at the list for what became of it.");
    } finally {
      this.#busy = false;
    }
  }

  // One change, hence all or nothing: the copy takes the place of the current one.
  #keepCopy(copy, current) {
    const { copy: source, original, name } = this.#conflict;
    const body = {
      source_b64: base64Of(source),
      destination_b64: base64Of(original),
      base: copy.version,
      destination_base: current?.version ?? 0,
    };
    return this.#write(
      "/api/v1/move",
      { method: "POST", body: JSON.stringify(body), headers: JSON_BODY },
      `${visible(name)} is what the copy was.`,
    );
  }

  async #keepCurrent(copy, current) {
    const { copy: path, original, name } = this.#conflict;
    // Were the current one gone by now, the copy would be the last that is left.
    const address = `${addressOf(original)}?consistency=linearizable`;
    const now = await fetch(address, { method: "HEAD", signal: AbortSignal.timeout(WRITE_MS) });
    if (!now.ok && now.status !== 404) throw new Error("no majority, no answer");
    if (now.headers.get("ETag") !== `"${current.version}"`) return this.#look(CHANGED);
    return this.#write(
      addressOf(path),
      { method: "DELETE", headers: { "If-Match": `"${copy.version}"` } },
      `${visible(name)} stays as it is; the copy is gone.`,
    );
  }

  async #write(address, { headers, ...options }, done) {
    const response = await fetch(address, {
      signal: AbortSignal.timeout(WRITE_MS),
      headers: { ...headers, "Idempotency-Key": newKey() },
      ...options,
    });
    if (response.ok) return this.#end(done);
    if (response.status === 412 || response.status === 404) return this.#look(CHANGED);
    const { detail } = await documentOf(response);
    return this.#look(`That was refused: ${detail}`);
  }
}
