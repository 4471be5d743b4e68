// @ts-check
/** The box to write in, and the one button beside it that sends or stops. */

import { find } from "./dom.js";

/**
 * @typedef {import("./strings.js").Strings} Strings
 * @typedef {"idle" | "loading" | "busy" | "stopping"} Mode
 * @typedef {ReturnType<typeof createComposer>} Composer
 */

/**
 * @param {HTMLElement} root
 * @param {Strings} strings
 * @param {{onSend: (text: string) => void, onStop: () => void}} handlers
 */
export function createComposer(root, strings, { onSend, onStop }) {
  /** @type {HTMLFormElement} */
  const form = find(root, "composer");
  /** @type {HTMLTextAreaElement} */
  const box = find(root, "box");
  /** @type {HTMLButtonElement} */
  const submit = find(root, "submit");
  /** @type {Mode} */
  let mode = "idle";

  function refresh() {
    const stops = mode === "busy" || mode === "stopping";
    const label = stops ? strings.stop : strings.send;
    form.dataset.stops = String(stops);
    // Not `disabled`: that would take the focus away from whoever has just pressed it.
    const dead = mode !== "busy" && (mode !== "idle" || !box.value.trim());
    submit.setAttribute("aria-disabled", String(dead));
    submit.setAttribute("aria-label", label);
    submit.title = label;
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight}px`;
  }

  function send() {
    const text = box.value;
    if (mode !== "idle" || !text.trim()) return;
    box.value = "";
    onSend(text);
    refresh();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (mode === "busy") onStop();
    else send();
  });
  box.addEventListener("keydown", (event) => {
    // Safari reports the Enter that ends a composition after `compositionend`, with this key code.
    const composing = event.isComposing || event.keyCode === 229;
    if (event.key !== "Enter" || event.shiftKey || composing) return;
    event.preventDefault();
    send();
  });
  box.addEventListener("input", refresh);
  addEventListener("resize", refresh);
  refresh();

  return {
    isIdle: () => mode === "idle",
    /** @param {Mode} next */
    setMode(next) {
      mode = next;
      refresh();
    },
    /** Puts back what was sent, before anything written since. @param {string} text */
    restore(text) {
      box.value = box.value.trim() ? `${text}\n\n${box.value}` : text;
      refresh();
    },
    focus() {
      box.focus();
    },
  };
}
