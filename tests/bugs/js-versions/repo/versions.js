/** Versions: three numbers, and a tag for what comes before a release. */

const PATTERN = /^v?(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.]+))?$/;

/** The parts of a version; throws if the text is none. */
export function parse(text) {
  const match = PATTERN.exec(text.trim());
  if (match === null) {
    throw new SyntaxError(`not a version: ${text}`);
  }
  const [major, minor, patch] = match.slice(1, 4);
  return { major, minor, patch, tag: match[4] ?? null };
}

/** Negative if `left` is older than `right`, positive if newer, 0 if they are the same. */
export function compare(left, right) {
  const [a, b] = [parse(left), parse(right)];
  for (const part of ["major", "minor", "patch"]) {
    if (a[part] !== b[part]) {
      return a[part] < b[part] ? -1 : 1;
    }
  }
  if (a.tag === b.tag) {
    return 0;
  }
  // A release is newer than what came before it.
  if (a.tag === null || b.tag === null) {
    return a.tag === null ? 1 : -1;
  }
  return a.tag < b.tag ? -1 : 1;
}

/** The newest of some versions. */
export function newest(versions) {
  return versions.reduce((best, version) => (compare(version, best) > 0 ? version : best));
}
