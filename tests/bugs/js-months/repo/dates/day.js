/** Days as texts: `2023-01-31`. */

/** Year, month (from 1) and day of a text. */
export function parts(text) {
  const match = /^(\d{4})-(\d{2})-(\d{2})$/.exec(text);
  if (match === null) {
    throw new SyntaxError(`not a day: ${text}`);
  }
  const [year, month, day] = match.slice(1).map(Number);
  return { year, month, day };
}

/** The text of a date, by UTC. */
export function toText(date) {
  return date.toISOString().slice(0, 10);
}
