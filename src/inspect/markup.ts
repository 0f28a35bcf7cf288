/** Text in markup: whatever a token holds, it stays text. */

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/**
 * Text for an element or a quoted attribute of XML and HTML. Characters that these may not hold, but tokens of bytes
 * do, become pictures of them (U+2400 and on) or U+FFFD.
 */
export function escapeMarkup(text: string): string {
  return visible(text).replace(/[&<>"']/g, (character) => entities[character]!);
}

/** JSON for a script element: nothing in it can end the element or begin a comment. */
export function escapeJson(value: unknown): string {
  const escapes: Record<string, string> = { '<': '\\u003c', '>': '\\u003e', '&': '\\u0026' };
  return JSON.stringify(value).replace(/[<>&]/g, (character) => escapes[character]!);
}

/** Text whose control characters can be seen, and without halves of surrogate pairs and what is no character. */
export function visible(text: string): string {
  // oxlint-disable-next-line eslint/no-control-regex -- these are what it is about
  const shown = text.replace(/[\u0000-\u001f\u007f]/g, (character) => {
    const code = character.charCodeAt(0);
    return String.fromCharCode(code === 0x7f ? 0x2421 : 0x2400 + code);
  });
  return shown.replace(/[\p{Cs}\ufffe\uffff]/gu, '\ufffd');
}

/** At most `most` characters, cut at the end. */
export function shorten(text: string, most: number): string {
  const characters = Array.from(text);
  return characters.length <= most ? text : `${characters.slice(0, most - 1).join('')}…`;
}
