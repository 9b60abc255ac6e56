// Uploads into the directory that is open, one after the other. Nothing is replaced unasked.

import { percent } from "./format.js";
import { button, make, part, tone, write } from "./page.js";
import { addressOf, encodedPath } from "./paths.js";

const SHOWN = 8;
const encoder = new TextEncoder();

let queue = Promise.resolve();

// `where()` is the directory that is open; `stored()` is told after each file.
export function setUpUploads(where, stored) {
  const chooser = part("chooser");
  const take = (files) => [...files].forEach((file) => add(file, where().encoded, stored));
  part("upload").addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    take(chooser.files);
    chooser.value = "";
  });
  takeDrops(part("files"), take);
}

function takeDrops(panel, take) {
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  panel.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    panel.classList.add("drop");
  });
  panel.addEventListener("dragleave", (event) => {
    if (!panel.contains(event.relatedTarget)) panel.classList.remove("drop");
  });
  panel.addEventListener("drop", (event) => {
    panel.classList.remove("drop");
    if (!carriesFiles(event)) return;
    event.preventDefault();
    take(event.dataTransfer.files);
  });
}

function add(file, directory, stored) {
  const name = encodedPath(encoder.encode(file.name));
  const upload = {
    file,
    address: addressOf(directory ? `${directory}/${name}` : name),
    item: make("li", "", make("span", "name", file.name), make("span", "said", "waits")),
    stored,
  };
  const list = part("uploads");
  list.prepend(upload.item);
  // What waits, or asks something, stays in view.
  const ended = [...list.querySelectorAll("[data-ended]")];
  while (list.childElementCount > SHOWN && ended.length) ended.pop().remove();
  list.hidden = false;
  enqueue(upload, { "If-None-Match": "*" });
}

function enqueue(upload, condition) {
  queue = queue.then(() => send(upload, condition));
}

async function send(upload, condition) {
  say(upload, "0 %", "idle");
  try {
    const answer = await put(upload, condition);
    if (answer.status === 412) askToReplace(upload);
    else if (answer.status >= 400) say(upload, answer.document?.detail ?? "was refused", "bad");
    else {
      say(upload, "stored", "ok");
      upload.item.dataset.ended = "";
      upload.stored();
    }
  } catch {
    say(upload, "the node did not answer; try again", "bad");
  }
}

function askToReplace(upload) {
  say(upload, "is there already", "warn");
  const answer = (text, act) => button("", text, act);
  const replace = answer("Replace it", () => {
    choices.remove();
    enqueue(upload, {});
  });
  const keep = answer("Keep it", () => {
    choices.remove();
    say(upload, "left as it was", "idle");
    upload.item.dataset.ended = "";
  });
  const choices = make("span", "choices", replace, keep);
  upload.item.append(choices);
}

function say(upload, text, name) {
  write(upload.item.querySelector(".said"), text);
  tone(upload.item, name);
}

// XMLHttpRequest tells how far an upload is; fetch does not.
function put(upload, condition) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", upload.address);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.setRequestHeader("X-Pickbox-Mtime", `${upload.file.lastModified}000000`);
    for (const [header, value] of Object.entries(condition)) {
      request.setRequestHeader(header, value);
    }
    request.responseType = "json";
    request.upload.addEventListener("progress", ({ loaded, total }) => {
      if (total) say(upload, percent((100 * loaded) / total), "idle");
    });
    request.addEventListener("load", () => {
      resolve({ status: request.status, document: request.response });
    });
    request.addEventListener("error", reject);
    request.send(upload.file);
  });
}
