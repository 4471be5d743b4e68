// @ts-check
/** Text that stays as it is: code, with its language and a button that copies it, and math. */

import { element } from "./dom.js";

/**
 * @typedef {{copy: string, copied: string}} Strings
 * @typedef {ReturnType<typeof createCode>} Code
 */

/** A block goes on in the next piece at a line's end after so many characters, or at the latest
 * after twice as many: layout never starts from the top. */
const PIECE_MOST = 8000;
const COPIED_MS = 2000;

/** @param {string} text */
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Outside of https and localhost there is no clipboard.
  const focused = document.activeElement;
  const box = element("textarea", { readonly: "" });
  box.value = text;
  document.body.append(box);
  box.select();
  const copied = document.execCommand("copy");
  box.remove();
  if (focused instanceof HTMLElement) focused.focus();
  if (!copied) throw new Error("the browser did not copy the text");
}

/**
 * @param {Strings} strings
 * @param {() => string} read the text to copy
 */
function copyButton(strings, read) {
  const button = element("button", { type: "button", chat: "copy" }, strings.copy);
  const reset = () => void (button.textContent = strings.copy);
  button.addEventListener("click", () => {
    const done = () => {
      button.textContent = strings.copied;
      setTimeout(reset, COPIED_MS);
    };
    copy(read()).then(done, reset);
  });
  return button;
}

/** @param {HTMLElement} home */
function createPieces(home) {
  let waiting = "";
  let last = new Text();
  let length = 0;

  /** @param {string} text */
  function write(text) {
    if (!last.parentNode) home.append(element("span", {}, last));
    last.appendData(text);
    length += text.length;
  }

  return {
    /** @param {string} text */
    add(text) {
      waiting += text;
    },
    draw() {
      while (waiting) {
        const line = waiting.indexOf("\n", Math.max(0, PIECE_MOST - length - 1)) + 1;
        const most = 2 * PIECE_MOST - length;
        const ends = line > 0 && line <= most;
        const end = ends ? line : Math.min(most, waiting.length);
        write(waiting.slice(0, end));
        waiting = waiting.slice(end);
        if (!ends && end < most) return;
        last = new Text();
        length = 0;
      }
    },
  };
}

/**
 * @param {ParentNode} home
 * @param {string | null} language of code; null: it is math
 * @param {Strings} strings
 */
export function createCode(home, language, strings) {
  const code = element("code", {});
  const block = element("pre", { tabindex: "0", dir: "ltr" }, code);
  if (language === null) {
    block.dataset.chat = "math";
    home.append(block);
  } else {
    const head = element("figcaption", {}, element("span", {}, language));
    head.append(copyButton(strings, () => code.textContent ?? ""));
    home.append(element("figure", { chat: "code", "data-language": language }, head, block));
  }
  const pieces = createPieces(code);
  return { ...pieces, close: pieces.draw };
}
