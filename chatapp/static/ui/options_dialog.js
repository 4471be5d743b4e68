// @ts-check
/**
 * What the reader can choose: the model and its settings for this conversation, and the display.
 */

/** @import { Chat, CreateOptionsDialog, Settings } from "../types" */

import { element } from "../dom.js";
import { request } from "../net/api.js";

/** @type {CreateOptionsDialog} */
export function createOptionsDialog(chat, onChange) {
	const { models, settings: form, options: dialog } = chat.refs;
	/** @type {HTMLInputElement[]} */
	const inputs = [...form.elements].filter(({ name }) => name);
	/** @type {Settings} */
	let chosen = {};

	function show() {
		models.value = chosen.model ?? models.dataset.usual;
	}

	/** @param {Settings} changed */
	function change(changed) {
		chosen = withoutDefaults({ ...chosen, ...changed });
		show();
		onChange(changed);
	}

	models.onchange = () => change({ model: models.value });
	dialog.onclose = () => {
		if (dialog.returnValue !== "save") return;
		dialog.returnValue = "";
		change(Object.fromEntries(inputs.map(each => [each.name, valueOf(each)])));
	};
	connectDisplay(chat);
	void offerModels(chat, show);
	return {
		chosen: () => chosen,
		load(settings) {
			chosen = withoutDefaults(settings ?? chosen);
			show();
		},
		open() {
			for (const each of inputs) each.value = String(chosen[each.name] ?? "");
			dialog.showModal();
		},
	};
}

/** @type {(settings: Settings) => Settings} */
function withoutDefaults(settings) {
	return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== null));
}

/** @param {HTMLInputElement} input */
function valueOf({ type, value }) {
	if (!value) return null;
	return type === "number" ? Number(value) : value;
}

/** The theme and the language, which are kept for all chats of the browser. @param {Chat} chat */
function connectDisplay({ host, root, refs: { theme, language }, texts, choices }) {
	const setTheme = () => (root.dataset.theme = host.getAttribute("theme") ?? theme.value);
	theme.value = choices.recall("theme") ?? "";
	theme.onchange = () => {
		choices.keep("theme", theme.value);
		setTheme();
	};
	setTheme();
	language.value = texts.language;
	language.onchange = () => {
		choices.keep("language", language.value);
		host.restart();
	};
	theme.parentElement.hidden = host.hasAttribute("theme");
	language.parentElement.hidden = Boolean(host.lang);
}

/**
 * Fills the list of models, and shows the server's notice about them.
 * @param {Chat} chat
 * @param {() => void} onLoad
 */
async function offerModels({ refs: { models, notice }, texts, config, signal, status }, onLoad) {
	// Without the list, the server's default model answers.
	const offered = await request(config.urls.models, signal).catch(() => null);
	if (!offered) return;
	for (const { id } of offered.models) models.append(element("option", { value: id }, id));
	models.dataset.usual = offered.default;
	models.hidden = offered.models.length < 2;
	onLoad();
	const said = offered.notice;
	if (!said) return;
	const isLocal = said.code === "local_model";
	notice.dataset.tone = isLocal ? "calm" : "warning";
	notice.textContent = isLocal ? texts.localModel : status.sentence(said);
}
