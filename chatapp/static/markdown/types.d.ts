/** Markdown while it is parsed and drawn. */

import type { Texts } from "../types";

/** What is left of a line, and how many columns were read before it. */
export type Line = { text: string; column: number };
export type Container = {
	type: "root" | "quote" | "list" | "item";
	home: HTMLElement;
	/** The element that gets the next block, if there are several. */
	part?: HTMLElement;
	/** The last line of it was blank. */
	blank?: boolean;
	/** Of an item: the indent of its content. */
	offset?: number;
	/** Of a list: the marker of its items. */
	marker?: string;
	isDraft?: boolean;
};
/** A text being parsed line by line. */
export type Blocks = {
	texts: Texts;
	/** The level of `#`. */
	heading: number;
	/** What holds the line's blocks, from the outside in. */
	stack: Container[];
	/** The containers that the line continues. */
	depth: number;
	/** The block that takes text. */
	leaf: Leaf | null;
	/** What has arrived of the last line. */
	tail: string;
	/** The tail continues a line whose beginning was too long to hold back. */
	isLong: boolean;
	/** Removes what was drawn of the tail. */
	undo(): void;
};
/** A run of `*`, `_` or `~` that may open or close emphasis. */
export type Delimiter = {
	char: string;
	/** Its length in the source. */
	length: number;
	opens: boolean;
	closes: boolean;
	/** What is left of it. */
	node: Text;
	/** Nothing before it fits. */
	isTried?: boolean;
};
/** A `[` or `![` that may begin a link; `bottom`: how many delimiters precede it. */
export type Bracket = { node: Text; isImage: boolean; isActive: boolean; bottom: number };
/** The text of a block while it is parsed. */
export type Scan = {
	source: string;
	at: number;
	made: DocumentFragment;
	delimiters: Delimiter[];
	brackets: Bracket[];
	/** Grows while words follow words. */
	words: Text | null;
	/** Something may yet turn out to be more than text. */
	isUnsure: boolean;
	/** The last safe place, with the last node there, and its length if it is text. */
	safe: { at: number; last: ChildNode | null; length: number | undefined };
};
/** A block of text: `rest` is redrawn each time, after the `final` node. */
export type Inline = { home: HTMLElement; final: ChildNode | null; rest: string };
/** `isDraft`: added nodes are removed again; earlier ones stay. */
type Growing = { home: HTMLElement; size: number; isDraft?: boolean };
/** `held`: its last line. */
export type TextLeaf = Inline &
	Growing & { type: "text"; tag: keyof HTMLElementTagNameMap; held: string };
/** `home`: its last piece. `indent`: the white space before its fence. */
export type CodeLeaf = Growing & { type: "code"; fence: string; indent: number; isMath?: boolean };
/** How each column is aligned. */
export type Columns = ("left" | "center" | "right")[];
export type TableLeaf = {
	type: "table";
	home: HTMLElement;
	head: HTMLElement;
	columns: Columns;
	isDraft?: boolean;
};
export type Leaf = TextLeaf | CodeLeaf | TableLeaf;
/**
 * @param holder gets the block
 * @param within the type of the container
 */
export type OpenText = (
	holder: HTMLElement,
	within: Container["type"],
	tag: keyof HTMLElementTagNameMap,
	text: string,
) => TextLeaf;
export type OpenCode = (
	holder: HTMLElement,
	texts: Texts,
	fence: string,
	indent: number,
	language: string,
	isMath?: boolean,
) => CodeLeaf;
export type Add = (leaf: TextLeaf | CodeLeaf, text: string) => void;
/** @param isOpen more follows */
export type DrawLeaf = (leaf: Leaf | null, isOpen: boolean) => void;
/** @param parent closes the leaf, and makes room for a block */
export type Underline = (
	leaf: TextLeaf,
	line: string,
	parent: () => HTMLElement,
) => TableLeaf | null;
/** @param parent as above */
export type AddRow = (leaf: TableLeaf, text: string, parent: () => HTMLElement) => TableLeaf;
/** @param heading the level of `#`, 1 to 6 */
export type CreateBlocks = (
	root: HTMLElement,
	texts: Texts,
	heading: number,
) => {
	/** @param text with LF as its only line ends */
	write(text: string): void;
	/** Shows what has arrived so far. */
	draw(): void;
	/** Nothing follows. */
	close(): void;
};
export type Markdown = {
	/** The next piece of the text. */
	append(text: string): void;
	/** Draws the rest, in frames, then calls back. Only `reset` may follow. */
	end(onEnd: () => void): void;
	/** Starts again with nothing. */
	reset(): void;
};
export type CreateMarkdown = (
	/** Empty; it belongs to the Markdown. */
	container: HTMLElement,
	options?: {
		texts?: Texts;
		heading?: number;
		/** Calls back soon, when there is time to draw. */
		schedule?: (run: () => void) => void;
	},
) => Markdown;
