import { addMonths } from "./dates/months.js";

/** The first `count` days on which a subscription is charged that begins on `start`. */
export function charges(start, count) {
  const days = [start];
  while (days.length < count) {
    days.push(addMonths(days[days.length - 1], 1));
  }
  return days;
}
