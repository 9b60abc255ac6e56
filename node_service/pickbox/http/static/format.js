// Figures as people read them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export const count = new Intl.NumberFormat("en").format;

export function bytes(value) {
  let unit = 0;
  let size = value;
  while (size >= 1024 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${size < 10 && unit ? size.toFixed(1) : Math.round(size)} ${UNITS[unit]}`;
}

export function duration(seconds) {
  const s = Math.floor(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export function shortTime(seconds) {
  if (seconds === 0) return "0 s";
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
}

export function rate(value) {
  return `${value < 10 ? value.toFixed(1) : count(Math.round(value))} /s`;
}

export function percent(value) {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} %`;
}

export function clock(date) {
  return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

export function moment(date) {
  const day = date.toLocaleDateString([], { year: "numeric", month: "short", day: "numeric" });
  return `${day}, ${date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}`;
}

// A file in a few words.
export function aboutFile(entry) {
  const from = entry.origin ? `, from ${entry.origin}` : "";
  return `${bytes(entry.size)}${from}, of ${moment(new Date(entry.mtime_ns / 1e6))}`;
}

export function plural(number, one, many) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

export function words(name) {
  return name.replaceAll("_", " ");
}
