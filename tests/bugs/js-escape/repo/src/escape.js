/** Makes texts harmless in HTML. */

/** `text` with the signs that mean something in HTML replaced. */
export function escape(text) {
  return String(text)
    .replace("&", "&amp;")
    .replace("<", "&lt;")
    .replace(">", "&gt;")
    .replace('"', "&quot;");
}

/** An address that may stand in a link; anything but http and https becomes `#`. */
export function safeAddress(text) {
  return /^https?:\/\//i.test(text) ? text : "#";
}
