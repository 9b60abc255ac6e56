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

// The bytes that a percent-encoded path stands for, in base64.
export function base64Of(encoded) {
  const latin = encoded.replace(/%([0-9A-F]{2})/g, (_, hex) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  return btoa(latin);
}

// As text; bytes that are none stay encoded.
export function decodedPath(encoded) {
  try {
    return decodeURIComponent(encoded);
  } catch {
    return encoded;
  }
}

export function addressOf(encoded) {
  return `/api/v1/files/${encoded}`;
}

export function nameOf(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}

// Control characters, and those that have no width or turn the direction of what follows: with them
// a name could look like another one.
const UNSEEN =
  /[\u0000-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

// A name as people see it.
export function visible(name) {
  return name.replace(UNSEEN, (character) => {
    const code = character.charCodeAt(0).toString(16).toUpperCase();
    return `<U+${code.padStart(4, "0")}>`;
  });
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
  link.textContent = visible(text);
  return link;
}
