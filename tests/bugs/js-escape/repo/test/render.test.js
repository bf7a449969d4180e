import test from "node:test";
import assert from "node:assert/strict";
import { escape } from "../src/escape.js";
import { renderComment } from "../src/render.js";

test("signs", () => {
  assert.equal(escape("a < b"), "a &lt; b");
  assert.equal(escape('"x'), "&quot;x");
});

test("a comment", () => {
  const html = renderComment({ author: "Ada", site: "javascript:alert(1)", text: "One.\n\nTwo." });
  assert.equal(html, '<article><h3><a href="#">Ada</a></h3>\n<p>One.</p>\n<p>Two.</p></article>');
});
