import { parse, stringify } from "./query.js";

/** The address with some values of its query changed; `null` takes a value out. */
export function changed(address, changes) {
  const [path, query = ""] = address.split("?");
  const values = { ...parse(query), ...changes };
  for (const [name, value] of Object.entries(values)) {
    if (value === null) {
      delete values[name];
    }
  }
  const text = stringify(values);
  return text === "" ? path : `${path}?${text}`;
}
