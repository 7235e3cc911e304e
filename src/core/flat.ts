/** Strings in one piece, for objects that are turned into JSON often. */

const scratch = Buffer.allocUnsafe(512)
const ASCII = /^[\x20-\x7e]*$/

/**
 * The same text. V8 keeps what was joined or sliced as a tree of pieces, and an object that holds one such string takes twice as
 * long to encode. Texts that are long or not ASCII are left as they are.
 */
export function flat(text: string): string {
  if (text.length > scratch.length || !ASCII.test(text)) return text
  return scratch.toString('latin1', 0, scratch.write(text, 0, 'latin1'))
}
