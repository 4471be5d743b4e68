// @ts-check
/** Wires the parts of the page, writes its texts, keeps the browser's history. */

import { getModels } from "./api.js";
import { createComposer } from "./composer.js";
import { createConversation } from "./conversation.js";
import { element, find } from "./dom.js";
import { createStatus } from "./status.js";
import { chooseStrings } from "./strings.js";
import { createThread } from "./thread.js";

/** @typedef {import("./strings.js").Strings} Strings */

/** @param {HTMLElement} root @param {Strings} strings */
function writeTexts(root, strings) {
  document.documentElement.lang = strings.language;
  const texts = new Map(Object.entries(strings).map(([key, text]) => [key, String(text)]));
  for (const each of root.getElementsByTagName("*")) {
    const { text, label, placeholder } = /** @type {HTMLElement} */ (each).dataset;
    if (text) each.textContent = texts.get(text) ?? "";
    if (label) each.setAttribute("aria-label", texts.get(label) ?? "");
    if (placeholder) each.setAttribute("placeholder", texts.get(placeholder) ?? "");
  }
}

/**
 * @param {HTMLElement} root
 * @param {Strings} strings
 * @param {import("./status.js").Status} status
 * @param {string} url
 * @returns {() => string | undefined} the model that the visitor has chosen
 */
function createModelPicker(root, strings, status, url) {
  /** @type {HTMLSelectElement} */
  const picker = find(root, "models");
  const notice = find(root, "notice");
  getModels(url, new AbortController().signal).then(
    ({ models, default: usual, notice: said }) => {
      picker.append(...models.map(({ id }) => element("option", { value: id }, id)));
      if (usual) picker.value = usual;
      picker.hidden = models.length < 2;
      if (!said) return;
      const local = said.code === "local_model";
      notice.dataset.tone = local ? "calm" : "warning";
      notice.textContent = local ? strings.localModel : status.sentence(said);
    },
    () => {}, // Without the list the server's default answers.
  );
  return () => (picker.hidden ? undefined : picker.value);
}

/** @param {HTMLElement} root carries the server's addresses as `data-url-…` */
function start(root) {
  const strings = chooseStrings(navigator.languages);
  const url = (/** @type {string} */ name) => root.dataset[`url${name}`] ?? "";
  const siteTitle = document.title;
  writeTexts(root, strings);
  const thread = createThread(root, strings);
  const composer = createComposer(root, strings, {
    onSend: (text) => conversation.send(text),
    onStop: () => conversation.stop(),
  });
  const status = createStatus(root, strings);
  const chosenModel = createModelPicker(root, strings, status, url("Models"));
  const urls = {
    chat: url("Chat"),
    answers: url("Answers"),
    conversations: url("Conversations"),
  };

  const idFromAddress = () => {
    const { pathname } = location;
    const prefix = url("ConversationPage");
    return pathname.startsWith(prefix) ? pathname.slice(prefix.length) : null;
  };

  /** @param {string | null} id */
  function open(id) {
    thread.clear(!id);
    document.title = siteTitle;
    const opened = createConversation(id, {
      urls,
      strings,
      thread,
      composer,
      status,
      chosenModel,
      onId,
      onTitle: (title) => {
        document.title = title ? `${title} – ${siteTitle}` : siteTitle;
      },
    });
    void opened.load();
    composer.focus();
    return opened;
  }

  /** @param {string | null} id */
  function onId(id) {
    if (id) history.pushState(null, "", url("ConversationPage") + id);
    else go(url("Page"));
  }

  /** @param {string} address */
  function go(address) {
    history.pushState(null, "", address);
    reopen();
  }

  function reopen() {
    conversation.close();
    conversation = open(idFromAddress());
  }

  let conversation = open(idFromAddress());
  addEventListener("popstate", reopen);
  find(root, "new").addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go(url("Page"));
  });
}

start(document.body);
