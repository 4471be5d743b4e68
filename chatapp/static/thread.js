// @ts-check
/** The messages of a conversation, one below the other, and scrolling along with them. */

import { createAnswerView } from "./answer_view.js";
import { element, find } from "./dom.js";

/**
 * @typedef {import("./strings.js").Strings} Strings
 * @typedef {ReturnType<typeof createThread>} Thread
 */

/** Nearer to the end than this, in CSS pixels, the reader counts as being at the end. */
const NEAR_PX = 48;

/**
 * Keeps a scroller at its end while its content grows, until the reader scrolls up.
 * @param {HTMLElement} scroller
 * @param {HTMLElement} content
 * @returns {() => void} goes to the end and stays there
 */
function stayAtEnd(scroller, content) {
  let staying = true;
  let lastTop = 0;
  const toEnd = () => {
    if (staying) scroller.scrollTop = scroller.scrollHeight;
  };
  scroller.addEventListener(
    "scroll",
    () => {
      const { scrollTop, scrollHeight, clientHeight } = scroller;
      if (scrollHeight - scrollTop - clientHeight < NEAR_PX) staying = true;
      else if (scrollTop < lastTop) staying = false;
      lastTop = scrollTop;
    },
    { passive: true },
  );
  const sizes = new ResizeObserver(toEnd);
  sizes.observe(content);
  sizes.observe(scroller);
  return () => {
    staying = true;
    toEnd();
  };
}

/**
 * @param {HTMLElement} root
 * @param {Strings} strings
 */
export function createThread(root, strings) {
  const messages = find(root, "messages");
  const toEnd = stayAtEnd(find(root, "scroller"), messages);

  /** @param {HTMLElement} message becomes the last one */
  function add(message) {
    messages.append(message);
    root.dataset.empty = "false";
    toEnd();
  }

  return {
    add,
    /** Says again whether there is anything, after something was taken away. */
    recount() {
      root.dataset.empty = String(!messages.childElementCount);
    },
    /** @param {string} text */
    addQuestion(text) {
      const bubble = element("div", { chat: "text", dir: "auto" }, text);
      const heading = element("h2", { chat: "unseen" }, strings.you);
      const made = element("article", { chat: "question" }, heading, bubble);
      add(made);
      return made;
    },
    addAnswer() {
      const view = createAnswerView(strings);
      add(view.root);
      return view;
    },
    /**
     * @param {string} text
     * @param {HTMLElement} [action]
     */
    addNote(text, action) {
      const made = element("p", { chat: "aside", role: "alert" }, element("span", {}, text));
      if (action) made.append(action);
      add(made);
      return made;
    },
    /** @param {boolean} greet whether the visitor is at a beginning */
    clear(greet) {
      messages.replaceChildren();
      root.dataset.empty = String(greet);
    },
  };
}
