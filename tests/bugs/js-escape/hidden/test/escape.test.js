import test from "node:test";
import assert from "node:assert/strict";
import { escape } from "../src/escape.js";
import { renderComment } from "../src/render.js";

test("every occurrence", () => {
  assert.equal(escape("<b>x</b> & <i>y</i> &"), "&lt;b&gt;x&lt;/b&gt; &amp; &lt;i&gt;y&lt;/i&gt; &amp;");
  assert.equal(escape("\"a\" 'b'"), "&quot;a&quot; &#39;b&#39;");
});

test("nothing is escaped twice", () => assert.equal(escape("&lt;"), "&amp;lt;"));

test("in a comment", () => {
  const html = renderComment({ author: "<i>A</i>", site: null, text: "<script></script>" });
  assert.ok(!html.includes("<script>") && !html.includes("</script>") && !html.includes("<i>"));
});
