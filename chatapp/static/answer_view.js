// @ts-check
/** One answer on the page: how its text is drawn, and nothing about where it comes from. */

import { element } from "./dom.js";

/**
 * @typedef {import("./strings.js").Strings} Strings
 * @typedef {import("./answer_stream.js").Tool} Tool
 * @typedef {ReturnType<typeof createAnswerView>} AnswerView
 */

/** A block of text this long ends at its next line break: layout never starts from the top. */
const BLOCK_CHARS = 4000;

/**
 * Text that grows: written at most once per animation frame, finished blocks never touched again.
 * @param {HTMLElement} home
 */
function createGrowingText(home) {
  /** @type {string[]} */
  let pieces = [];
  let frame = 0;
  let last = new Text();

  function flush() {
    cancelAnimationFrame(frame);
    frame = 0;
    let text = pieces.join("");
    pieces = [];
    while (text) {
      const room = Math.max(0, BLOCK_CHARS - last.length);
      const end = text.indexOf("\n", room) + 1 || text.length;
      if (!last.isConnected) home.append(element("div", {}, last));
      last.appendData(text.slice(0, end));
      if (last.length > BLOCK_CHARS && last.data.endsWith("\n")) last = new Text();
      text = text.slice(end);
    }
  }

  return {
    /** @param {string} text */
    append(text) {
      pieces.push(text);
      frame ||= requestAnimationFrame(flush);
    },
    /** @param {string} text */
    replace(text) {
      last = new Text();
      home.replaceChildren();
      pieces = [text];
      flush();
    },
    flush,
  };
}

/**
 * The interface by which everything else draws an answer. Plain text for now.
 * @param {Strings} strings
 */
export function createAnswerView(strings) {
  const summary = element("summary", {}, strings.thinking);
  const thoughts = element("div", { chat: "reasoning-text", dir: "auto" });
  const reasoning = element("details", { chat: "reasoning", hidden: "" }, summary, thoughts);
  const tools = element("ul", { chat: "tools", hidden: "" });
  const body = element("div", { chat: "text", dir: "auto" });
  const foot = element("p", { chat: "note", hidden: "" });
  const root = element(
    "article",
    { chat: "answer", "data-state": "waiting", "aria-busy": "true" },
    element("h2", { chat: "unseen" }, strings.assistant),
    reasoning,
    tools,
    body,
    foot,
  );
  const answer = createGrowingText(body);
  const thinking = createGrowingText(thoughts);
  /** @type {Map<string, HTMLElement>} */
  const toolRows = new Map();

  /** @param {string} state */
  function setState(state) {
    if (root.dataset.state === state) return;
    root.dataset.state = state;
    if (state !== "thinking") summary.textContent = strings.reasoning;
  }

  return {
    root,
    /** @param {string} text the next piece of the answer */
    append(text) {
      setState("writing");
      answer.append(text);
    },
    /** @param {string} text the next piece of the model's reasoning */
    reason(text) {
      if (root.dataset.state === "waiting") setState("thinking");
      reasoning.hidden = false;
      thinking.append(text);
    },
    /** @param {Tool} tool a call, or what came of it */
    tool({ id, name, ...rest }) {
      const row = toolRows.get(id) ?? element("li", {}, name);
      toolRows.set(id, row);
      row.dataset.state = "error" in rest ? "failed" : "result" in rest ? "done" : "running";
      tools.hidden = false;
      tools.append(row);
    },
    /**
     * @param {string} text replaces the whole answer
     * @param {string | null} [thought] replaces the whole reasoning
     */
    replace(text, thought) {
      if (text) setState("writing");
      answer.replace(text);
      thinking.replace(thought ?? "");
      reasoning.hidden = !thought;
    },
    /**
     * @param {"done" | "stopped" | "failed" | "gone"} status
     * @param {string} [note] one line on how it ended
     * @param {HTMLElement} [action] what the reader may do about it
     */
    finish(status, note, action) {
      answer.flush();
      thinking.flush();
      setState(status);
      root.removeAttribute("aria-busy");
      foot.replaceChildren(
        ...(note ? [element("span", {}, note)] : []),
        ...(action ? [action] : []),
      );
      foot.hidden = !note && !action;
    },
  };
}
