// One file on its way to the node. XMLHttpRequest tells how far it is; fetch does not.

// A machine that lost its power refuses nothing, and what is uploaded next waits for this one.
const STALLED_MS = 60000; // with no byte sent
const UNANSWERED_MS = 300000; // with all sent; for a large file longer, as nodes do too:
const SLOWEST_STAGING = 1000; // bytes a millisecond, on their way to a majority

export class Sending {
  #request = new XMLHttpRequest();
  #fail = () => {};
  #timer = 0;

  // The answer's status and document. Fails with an Error that says why it was given up, or with
  // the event: "abort" or "error". `progress(loaded, total)` is told how far it is.
  send(file, address, headers, progress) {
    return new Promise((resolve, reject) => {
      this.#fail = reject;
      const request = this.#request;
      request.open("PUT", address);
      for (const [header, value] of Object.entries(headers)) {
        request.setRequestHeader(header, value);
      }
      request.responseType = "json";
      request.upload.addEventListener("progress", ({ loaded, total }) => {
        progress(loaded, total);
        this.#giveUpStalled();
      });
      request.upload.addEventListener("load", () => this.#giveUpUnanswered(file.size));
      request.addEventListener("load", () => {
        resolve({ status: request.status, document: request.response });
      });
      request.addEventListener("error", reject);
      request.addEventListener("abort", reject);
      request.addEventListener("loadend", () => clearTimeout(this.#timer));
      this.#giveUpStalled();
      request.send(file);
    });
  }

  abort() {
    this.#request.abort();
  }

  #giveUpStalled() {
    this.#giveUpAfter(STALLED_MS, "could not be sent: nothing more went out for a minute");
  }

  #giveUpUnanswered(size) {
    this.#giveUpAfter(
      UNANSWERED_MS + size / SLOWEST_STAGING,
      "was sent, and the node has not answered for minutes",
    );
  }

  #giveUpAfter(milliseconds, why) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#fail(new Error(why));
      this.#request.abort();
    }, milliseconds);
  }
}
