/** Figures of lists of numbers. None of them changes the list. */

function check(numbers) {
  if (numbers.length === 0) {
    throw new RangeError("there are no numbers");
  }
}

function sorted(numbers) {
  return [...numbers].sort();
}

/** The sum divided by the count. */
export function mean(numbers) {
  check(numbers);
  return numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
}

/** The number in the middle; of an even count, the mean of the two in the middle. */
export function median(numbers) {
  check(numbers);
  const inOrder = sorted(numbers);
  const middle = Math.floor(inOrder.length / 2);
  return inOrder.length % 2 === 1 ? inOrder[middle] : (inOrder[middle - 1] + inOrder[middle]) / 2;
}

/** The smallest number that at least `percent` of all numbers do not exceed. */
export function percentile(numbers, percent) {
  check(numbers);
  if (percent <= 0 || percent > 100) {
    throw new RangeError("a percentile is above 0 and at most 100");
  }
  const rank = Math.ceil((percent / 100) * numbers.length);
  return sorted(numbers)[rank - 1];
}
