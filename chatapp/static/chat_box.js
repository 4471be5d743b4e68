// @ts-check
/**
 * `<chat-box src="/chat">`: the whole chat as one element, with its own shadow tree.
 *
 * `src` is where the chat is mounted, `conversation` the one to open. `lang` and `theme` (`light`,
 * `dark`) override the reader's choice; `sidebar="off"` hides the list. With `history` the chat is
 * the page: it controls the address, the title and the keyboard shortcuts. Content between the tags
 * is shown if the server refuses the chat.
 */

/** @import { Memory } from "./types" */

import { startChat } from "./chat.js";
import { element } from "./dom.js";
import { persist, requestPage } from "./net/api.js";

/** What this visitor has chosen or written. @type {(prefix: string) => Memory} */
function createMemory(prefix) {
	/**
	 * Browsers may refuse to store anything.
	 * @type {<T>(run: (store: Storage) => T) => T | null}
	 */
	const attempt = run => {
		try {
			return run(localStorage);
		} catch {
			return null;
		}
	};
	return {
		recall: key => attempt(store => store.getItem(prefix + key)),
		keep(key, value) {
			attempt(store => {
				if (value) store.setItem(prefix + key, value);
				else store.removeItem(prefix + key);
			});
		},
	};
}

/** One after the other: two first requests side by side would make two visitors of one. */
let asked = Promise.resolve();
/** @type {typeof requestPage} */
function askForPage(url, signal) {
	const page = asked.then(() => requestPage(url, signal));
	asked = page.then(() => {}, () => {});
	return page;
}

/**
 * Fills the shadow tree with the server's HTML, and activates it.
 * @type {(host: ChatBox, shadow: ShadowRoot, signal: AbortSignal) => Promise<void>}
 */
async function start(host, shadow, signal) {
	const choices = createMemory("chat.");
	const isPage = host.hasAttribute("history");
	const lang = host.lang || choices.recall("language") || navigator.languages.join();
	const query = new URLSearchParams({ lang, ...(isPage && { page: "" }) });
	const mount = (host.getAttribute("src") ?? "").replace(/\/?$/, "/");
	const { body } = await persist(() => askForPage(`${mount}api/page?${query}`, signal), signal);
	const [script, style, root] = /** @type {HTMLElement[]} */ ([...body.children]);
	const { texts, config } = JSON.parse(script.textContent ?? "");
	// Show nothing until the style has loaded or failed.
	await new Promise(resolve => {
		style.onload = style.onerror = resolve;
		shadow.replaceChildren(style);
	});
	if (signal.aborted) return;
	shadow.append(root);
	const memory = createMemory(`chat.${config.visitor}.`);
	startChat({ host, root, isPage, texts, config, signal, choices, ...memory });
}

class ChatBox extends HTMLElement {
	static observedAttributes = ["src", "conversation", "lang", "theme", "sidebar"];
	#life = new AbortController();

	connectedCallback() {
		this.restart();
	}

	disconnectedCallback() {
		this.#life.abort();
	}

	attributeChangedCallback() {
		if (this.shadowRoot && this.isConnected) this.restart();
	}

	restart() {
		this.#life.abort();
		this.#life = new AbortController();
		const { signal } = this.#life;
		const shadow = this.shadowRoot ?? this.attachShadow({ mode: "open" });
		start(this, shadow, signal).catch(error => {
			// The host's content between the tags is shown instead.
			if (!signal.aborted) shadow.replaceChildren(element("slot", {}));
			if (!error.code) throw error;
		});
	}
}

customElements.define("chat-box", ChatBox);
