// @ts-check
/** Where a link may lead, and the characters that Markdown writes in other ways. */

/** The names that models use; any other stays as it is written. */
const ENTITIES = new Map(
  (
    "amp& lt< gt> quot\" apos' nbsp\u00a0 copy© reg® trade™ hellip… mdash— ndash– lsquo‘ rsquo’ " +
    "ldquo“ rdquo” laquo« raquo» bull• middot· times× divide÷ deg° plusmn± minus− microµ " +
    "euro€ pound£ yen¥ cent¢ sect§ para¶ larr← uarr↑ rarr→ darr↓ harr↔ rArr⇒ le≤ ge≥ ne≠ " +
    "asymp≈ infin∞ sum∑ radic√ alphaα betaβ gammaγ deltaδ lambdaλ muμ piπ " +
    "sigmaσ omegaω OmegaΩ DeltaΔ aumlä oumlö uumlü szligß eacuteé"
  )
    .split(" ")
    .map((each) => /** @type {const} */ ([each.slice(0, -1), each.slice(-1)])),
);

/** @param {string} text with backslash escapes and character references (CommonMark §2.4, §2.5) */
export function decode(text) {
  return text.replace(
    /\\([!-/:-@[-`{-~])|&(?:#(\d{1,7})|#x([\da-f]{1,6})|([a-z][a-z\d]*));/gi,
    (whole, escaped, decimal, hex, name) => {
      if (escaped) return escaped;
      if (name) return ENTITIES.get(name) ?? whole;
      const code = decimal ? Number(decimal) : parseInt(hex, 16);
      const valid = code && code < 0x110000 && (code < 0xd800 || code > 0xdfff);
      return valid ? String.fromCodePoint(code) : "\ufffd";
    },
  );
}

/**
 * Whether a link, or an image, may lead there: to the web, or to a mailbox.
 * @param {string} url @param {boolean} image
 */
export const allowed = (url, image) =>
  (image ? /^https?:\/\/\S/i : /^(?:https?:\/\/|mailto:)\S/i).test(url) &&
  !/[\0-\x1f\x7f]/.test(url);
