import { escape, safeAddress } from "./escape.js";

/** One comment as HTML: who wrote it, and paragraphs. */
export function renderComment({ author, site, text }) {
  const name = site ? `<a href="${escape(safeAddress(site))}">${escape(author)}</a>` : escape(author);
  const paragraphs = text
    .split(/\n{2,}/)
    .map((paragraph) => `<p>${escape(paragraph.trim())}</p>`)
    .join("\n");
  return `<article><h3>${name}</h3>\n${paragraphs}</article>`;
}
