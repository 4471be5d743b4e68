// @ts-check
/**
 * Markdown, drawn while it comes: DOM nodes only, in linear time, once per animation frame.
 *
 * Finished blocks are never touched again. HTML is text, links lead to the web or to a mailbox,
 * images are links.
 */

import { createBlocks } from "./markdown_blocks.js";

/**
 * @typedef {object} Options
 * @property {import("./markdown_code.js").Strings} [strings] of the buttons that copy code
 * @property {number} [heading] the level of `#`, 1 to 6
 * @property {(run: () => void) => void} [schedule] calls back soon, when there is time to draw
 * @typedef {ReturnType<typeof createMarkdown>} Markdown
 */

/** A page in the background gets no frames; it draws so many ms later instead. */
const FRAMELESS_MS = 250;
/** At least so many characters are read at once, and as many again while the time allows. */
const SLICE_CHARS = 8192;
const SLICE_MS = 12;

/** @param {() => void} run */
function nextFrame(run) {
  const once = () => {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    run();
  };
  const frame = requestAnimationFrame(once);
  const timer = setTimeout(once, FRAMELESS_MS);
}

/**
 * @param {HTMLElement} container empty; it belongs to the Markdown
 * @param {Options} [options]
 */
export function createMarkdown(container, options = {}) {
  const { strings = { copy: "Copy", copied: "Copied" }, heading = 1 } = options;
  const { schedule = nextFrame } = options;
  /** @type {string[]} */
  let pieces = [];
  let waiting = "";
  let isScheduled = false;
  let blocks = createBlocks(container, { strings, heading });

  /** @param {number} most */
  function read(most) {
    let end = Math.min(most, waiting.length);
    // The other half of a line end may be on its way.
    if (waiting[end - 1] === "\r") end--;
    blocks.write(waiting.slice(0, end).replace(/\r\n?/g, "\n").replaceAll("\0", "\ufffd"));
    waiting = waiting.slice(end);
    return end;
  }

  function collect() {
    waiting += pieces.join("");
    pieces = [];
  }

  function run() {
    isScheduled = false;
    const late = performance.now() + SLICE_MS;
    collect();
    while (waiting && read(SLICE_CHARS) && performance.now() < late);
    blocks.draw();
    if (waiting.length > 1) wake();
  }

  function wake() {
    if (!isScheduled) schedule(run);
    isScheduled = true;
  }

  return {
    /** @param {string} text the next piece */
    append(text) {
      pieces.push(text);
      wake();
    },
    /** Draws what is left, at once: nothing follows but `reset`. */
    end() {
      collect();
      blocks.write(waiting.replace(/\r\n?/g, "\n").replaceAll("\0", "\ufffd"));
      waiting = "";
      blocks.close();
    },
    /** Begins anew, with nothing. */
    reset() {
      pieces = [];
      waiting = "";
      container.replaceChildren();
      blocks = createBlocks(container, { strings, heading });
    },
  };
}
