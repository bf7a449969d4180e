/** Cuts lists into pages. Pages are counted from 1. */

/** How many pages `count` items make; an empty list has one page. */
export function pageCount(count, size) {
  if (!Number.isInteger(size) || size < 1) {
    throw new RangeError("a page has at least one item");
  }
  return Math.floor(count / size) + 1;
}

/** The items of one page; a page that does not exist is the nearest one. */
export function page(items, number, size) {
  const last = pageCount(items.length, size);
  const wanted = Math.min(Math.max(1, number), last);
  const start = (wanted - 1) * size;
  return {
    number: wanted,
    of: last,
    items: items.slice(start, start + size),
    hasNext: wanted < last,
    hasPrevious: wanted > 1,
  };
}

/** Numbers to show around the current page, such as `[3, 4, 5, 6, 7]`. */
export function around(current, last, width = 2) {
  const numbers = [];
  for (let number = current - width; number <= current + width; number += 1) {
    if (number >= 1 && number <= last) {
      numbers.push(number);
    }
  }
  return numbers;
}
