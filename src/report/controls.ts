/**
 * Control characters, halves of surrogate pairs, and the marks that reorder the text around them (bidirectional embeddings,
 * overrides and isolates): an SVG or HTML file must not hold the first two, and the third make text look like another.
 */
// oxlint-disable-next-line no-control-regex
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ufffe\uffff]|\p{Surrogate}/gu;

/** The text with what cannot be seen written out, such as `\u{202e}`. Tabs and line ends stay. */
export function showControls(text: string): string {
  return text.replace(UNSEEN, (character) => `\\u{${character.charCodeAt(0).toString(16)}}`);
}
