// @ts-check
/** What the reader can choose: the model and its settings for this conversation, and the display. */

import { request } from "../net/api.js";
import { element } from "../dom.js";

/** @type {import("../types").CreateOptions} */
export function createOptions({ host, root, ui, texts, config, signal, status, choices }, onChange) {
	const { models, theme, language, settings: form, options: sheet, notice } = ui;
	const inputs = [...form.elements].filter(({ name }) => name);
	let chosen = {};

	function show() {
		models.value = chosen.model ?? models.dataset.usual;
	}

	function change(changed) {
		const merged = Object.entries({ ...chosen, ...changed });
		chosen = Object.fromEntries(merged.filter(([, value]) => value !== null));
		show();
		onChange(changed);
	}

	models.onchange = () => change({ model: models.value });
	sheet.onclose = () => {
		if (sheet.returnValue !== "save") return;
		sheet.returnValue = "";
		const read = ({ type, value }) => (type === "number" ? Number(value) : value);
		change(Object.fromEntries(inputs.map(each => [each.name, each.value ? read(each) : null])));
	};

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

	request(config.urls.models, signal).then(
		({ models: offered, default: usual, notice: said }) => {
			models.append(...offered.map(({ id }) => element("option", { value: id }, id)));
			models.dataset.usual = usual;
			models.hidden = offered.length < 2;
			show();
			if (!said) return;
			const local = said.code === "local_model";
			notice.dataset.tone = local ? "calm" : "warning";
			notice.textContent = local ? texts.localModel : status.sentence(said);
		},
		() => {}, // Without the list the server's default answers.
	);

	return {
		chosen: () => chosen,
		load(settings) {
			const entries = Object.entries(settings ?? chosen).filter(([, value]) => value !== null);
			chosen = Object.fromEntries(entries);
			show();
		},
		open() {
			for (const each of inputs) each.value = chosen[each.name] ?? "";
			sheet.showModal();
		},
	};
}
