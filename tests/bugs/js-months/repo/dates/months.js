import { parts, toText } from "./day.js";

/** The day that is `count` months after `text`. */
export function addMonths(text, count) {
  const { year, month, day } = parts(text);
  return toText(new Date(Date.UTC(year, month - 1 + count, day)));
}

/** Whole months from one day to a later one. */
export function monthsBetween(from, to) {
  const [start, end] = [parts(from), parts(to)];
  const months = (end.year - start.year) * 12 + end.month - start.month;
  return end.day < start.day ? months - 1 : months;
}
