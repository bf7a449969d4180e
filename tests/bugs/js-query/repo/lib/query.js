/** Reads and writes query strings. */

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** An object of a query string; a name that is there several times has a list of values. */
export function parse(query) {
  const values = {};
  for (const part of query.replace(/^\?/, "").split("&")) {
    if (part === "") {
      continue;
    }
    const equals = part.indexOf("=");
    const name = decode(equals < 0 ? part : part.slice(0, equals));
    const value = equals < 0 ? "" : decode(part.slice(equals + 1));
    if (Object.hasOwn(values, name)) {
      values[name] = [values[name], value].flat();
    } else {
      values[name] = value;
    }
  }
  return values;
}

/** A query string of an object; lists become several parts. */
export function stringify(values) {
  const parts = [];
  for (const [name, value] of Object.entries(values)) {
    for (const one of [value].flat()) {
      parts.push(`${encodeURIComponent(name)}=${encodeURIComponent(one)}`);
    }
  }
  return parts.join("&");
}
