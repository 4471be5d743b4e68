/** Markdown while it is read and drawn. */

import type { Texts } from "../types";

/** What is left of a line, and how many columns were read before it. */
export type Line = { text: string; column: number };
export type Container = {
	type: "root" | "quote" | "list" | "item";
	home: HTMLElement;
	/** The element that gets the next block, where there are many. */
	part?: HTMLElement;
	/** The last line of it was blank. */
	blank?: boolean;
	/** An item's: the indent of what belongs to it. */
	offset?: number;
	/** A list's: what each of its items begins with. */
	marker?: string;
	isDraft?: boolean;
};
/** A text that is being read, line by line. */
export type Blocks = {
	texts: Texts;
	/** The level of `#`. */
	heading: number;
	/** What holds the line's blocks, from the outside in. */
	stack: Container[];
	/** The containers of the stack that the line goes on with. */
	depth: number;
	/** The block that takes text. */
	leaf: Leaf | null;
	/** What has come of the last line. */
	tail: string;
	/** The tail goes on with a line whose begin was too long to wait. */
	isLong: boolean;
	/** Takes back what was drawn of the tail. */
	undo(): void;
};
/** A run of `*`, `_` or `~` that may open or close emphasis. */
export type Delimiter = {
	char: string;
	/** What it had in the source. */
	length: number;
	opens: boolean;
	closes: boolean;
	/** What is left of it. */
	node: Text;
	/** Nothing before it fits. */
	isTried?: boolean;
};
/** A `[` or `![` that may begin a link; `bottom`: so many delimiters stand before it. */
export type Bracket = { node: Text; isImage: boolean; isActive: boolean; bottom: number };
/** The text of a block while it is read. */
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
	/** The last sure place, with the last node there, and how long it was if it is text. */
	safe: { at: number; last: ChildNode | null; length: number | undefined };
};
/** A block of text: `rest` is drawn anew each time, behind the `final` node. */
export type Inline = { home: HTMLElement; final: ChildNode | null; rest: string };
/** `isDraft`: what is added is taken back, node by node; those before stay as they are. */
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
	/** Shows what has come so far. */
	draw(): void;
	/** Nothing follows. */
	close(): void;
};
export type Markdown = {
	/** The next piece of the text. */
	append(text: string): void;
	/** Draws the rest, in frames, and calls back. Nothing follows but `reset`. */
	end(onEnd: () => void): void;
	/** Begins anew, with nothing. */
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
