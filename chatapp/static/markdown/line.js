// @ts-check
/** The rest of one line, read from its beginning. Tab stops are 4 columns apart. */

/** @import { Line } from "../types" */

/** The columns of white space before anything else. @param {Line} line */
export function indentOf({ text, column }) {
	let ahead = column;
	for (const char of text) {
		if (char !== " " && char !== "\t") break;
		ahead += widthAt(char, ahead);
	}
	return ahead - column;
}

/** Skips white space, also part of a tab. @param {Line} line */
export function skip(line, columns = Infinity) {
	for (let left = columns; left > 0 && /^[ \t]/.test(line.text); left--) {
		const width = widthAt(line.text[0], line.column);
		line.text = " ".repeat(width - 1) + line.text.slice(1);
		line.column++;
	}
}

/**
 * Skips a marker and the white space before it.
 * @type {(line: Line, length: number) => void}
 */
export function take(line, length) {
	skip(line);
	line.text = line.text.slice(length);
	line.column += length;
}

/** @param {string} text */
export const isBlank = text => !/[^ \t]/.test(text);

/** @type {(char: string, column: number) => number} */
const widthAt = (char, column) => (char === " " ? 1 : 4 - (column % 4));
