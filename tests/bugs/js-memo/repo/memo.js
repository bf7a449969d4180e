/** Remembers what functions returned. */

/**
 * A function that does as `f`, and calls it only once for each argument.
 *
 * With `limit`, no more results are kept; the oldest goes first. `clear()` forgets all.
 */
export function memo(f, { limit = Infinity } = {}) {
  const results = new Map();

  function remembered(argument) {
    const known = results.get(argument);
    if (known) {
      return known;
    }
    const result = f(argument);
    results.set(argument, result);
    if (results.size > limit) {
      results.delete(results.keys().next().value);
    }
    return result;
  }

  remembered.clear = () => results.clear();
  Object.defineProperty(remembered, "size", { get: () => results.size });
  return remembered;
}
