// Paths of the folder as addresses. A path is bytes; one that is no text comes in base64 too.

const encoder = new TextEncoder();

export function pathBytes(entry) {
  if (!entry.path_b64) return encoder.encode(entry.path);
  return Uint8Array.from(atob(entry.path_b64), (character) => character.charCodeAt(0));
}

// Percent-encoded, with its slashes.
export function encodedPath(bytes) {
  return Array.from(bytes, (byte) => {
    const character = String.fromCharCode(byte);
    return /[A-Za-z0-9._~/-]/.test(character)
      ? character
      : `%${byte.toString(16).padStart(2, "0").toUpperCase()}`;
  }).join("");
}

export function addressOf(encoded) {
  return `/api/v1/files/${encoded}`;
}

export function nameOf(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}

const COPY = /\.sync-conflict-\d{8}-\d{6}-[a-z0-9-]+(~\d+)?(\.[^./]*)?$/;

export function isCopy(path) {
  return COPY.test(path);
}

// The path of the file that a conflict copy is of, percent-encoded like its own.
export function originalOf(encoded) {
  return encoded.replace(COPY, (_, again, extension = "") => extension);
}

export function downloadLink(encoded, text, name) {
  const link = document.createElement("a");
  link.href = addressOf(encoded);
  link.download = name;
  link.textContent = text;
  return link;
}
