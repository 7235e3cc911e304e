/** Words of Dockerfile arguments: quotes, escapes and variables, by Docker's rules (a small part of the shell's). */
import { EngineError } from '../engine.ts'
import { anything, literal, Matcher } from './matcher.ts'

export type Lookup = (name: string) => string | undefined

/** Splits at blanks outside of quotes; quotes and escapes stay in the words. */
export function splitWords(text: string, escape: string): string[] {
  const words: string[] = []
  let word = ''
  let quote = ''
  let inside = false
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!
    if (quote === '' && /\s/.test(c)) {
      if (inside) words.push(word)
      word = ''
      inside = false
      continue
    }
    inside = true
    word += c
    if (c === escape && quote !== '\'' && i + 1 < text.length) word += text[++i]
    else if (quote === '' && (c === '"' || c === '\'')) quote = c
    else if (c === quote) quote = ''
  }
  if (inside) words.push(word)
  return words
}

/** Variables made of variables double with each line. */
const MAX_EXPANDED = 1 << 20

/** Removes quotes and escapes and puts variables in. Unknown variables are empty. Throws `invalid` for broken syntax, and for what grows too long. */
export function expand(word: string, lookup: Lookup, escape: string): string {
  const out = new Expander(word, lookup, escape).run()
  if (out.length > MAX_EXPANDED) throw new EngineError('invalid', `"${word.slice(0, 80)}" is longer than ${MAX_EXPANDED} characters when its variables are put in`)
  return out
}

/** As `expand`, and the result of an unquoted variable is split at blanks (EXPOSE $PORTS). */
export function expandWords(text: string, lookup: Lookup, escape: string): string[] {
  return splitWords(text, escape).flatMap(w => {
    const out = expand(w, lookup, escape)
    return /["']/.test(w) ? [out] : out.split(/\s+/).filter(p => p !== '')
  })
}

class Expander {
  readonly #text: string
  readonly #lookup: Lookup
  readonly #escape: string
  #at = 0

  constructor(text: string, lookup: Lookup, escape: string) {
    this.#text = text
    this.#lookup = lookup
    this.#escape = escape
  }

  run(): string {
    return this.#until('')
  }

  /** Up to an unquoted `stop` (left in place), or the end. */
  #until(stop: string): string {
    let out = ''
    while (this.#at < this.#text.length) {
      const c = this.#text[this.#at]!
      if (stop !== '' && c === stop) return out
      this.#at++
      if (c === '\'') out += this.#single()
      else if (c === '"') out += this.#double()
      else if (c === this.#escape) {
        // At the very end it stands for itself.
        out += this.#at < this.#text.length ? this.#text[this.#at++] : c
      } else if (c === '$') out += this.#variable()
      else out += c
    }
    if (stop !== '') throw new EngineError('invalid', `syntax error in "${this.#text}": missing "${stop}"`)
    return out
  }

  #single(): string {
    const end = this.#text.indexOf('\'', this.#at)
    if (end < 0) throw new EngineError('invalid', `unexpected end of statement while looking for matching single-quote in ${this.#text}`)
    const out = this.#text.slice(this.#at, end)
    this.#at = end + 1
    return out
  }

  #double(): string {
    let out = ''
    while (this.#at < this.#text.length) {
      const c = this.#text[this.#at++]!
      if (c === '"') return out
      if (c === '$') out += this.#variable()
      else if (c === this.#escape && this.#at < this.#text.length) {
        const next = this.#text[this.#at++]!
        // Inside of quotes only what has a meaning there can be escaped.
        out += next === '"' || next === '$' || next === this.#escape ? next : c + next
      } else out += c
    }
    throw new EngineError('invalid', `unexpected end of statement while looking for matching double-quote in ${this.#text}`)
  }

  #variable(): string {
    if (this.#text[this.#at] !== '{') {
      const name = /^(?:[A-Za-z_][A-Za-z0-9_]*|[0-9@*#])/.exec(this.#text.slice(this.#at))?.[0]
      if (name === undefined) return '$'
      this.#at += name.length
      return this.#lookup(name) ?? ''
    }
    this.#at++
    const name = /^(?:[A-Za-z_][A-Za-z0-9_]*|[0-9])/.exec(this.#text.slice(this.#at))?.[0]
    if (name === undefined) throw new EngineError('invalid', `bad substitution in "${this.#text}"`)
    this.#at += name.length
    const value = this.#lookup(name)
    const operator = /^(?::[-+?]|[-+?]|##?|%%?|\/\/?|\})/.exec(this.#text.slice(this.#at))?.[0]
    if (operator === undefined) throw new EngineError('invalid', `unsupported modifier (${this.#text[this.#at] ?? 'end'}) in substitution of "${this.#text}"`)
    this.#at += operator.length
    if (operator === '}') return value ?? ''
    const set = operator.startsWith(':') ? value !== undefined && value !== '' : value !== undefined
    if (operator.startsWith('/')) {
      const pattern = this.#until('/')
      this.#at++
      const by = this.#close()
      return replace(value ?? '', pattern, by, operator === '//')
    }
    const word = this.#close()
    switch (operator.replace(':', '')) {
      case '-': return set ? value! : word
      case '+': return set ? word : ''
      case '?':
        if (!set) throw new EngineError('invalid', `${name}: ${word === '' ? 'is not allowed to be unset' : word}`)
        return value!
      default: return trim(value ?? '', word, operator)
    }
  }

  #close(): string {
    const out = this.#until('}')
    this.#at++
    return out
  }
}

/** `*` and `?` of the shell, which know no path components here. */
function shellMatcher(pattern: string[]): Matcher {
  return new Matcher(pattern.map(c => (c === '*' ? { kind: 'many', fits: anything } : c === '?' ? { kind: 'one', fits: anything } : literal(c))))
}

function trim(value: string, pattern: string, operator: string): string {
  const front = operator.startsWith('#')
  const inOrder = (text: string): string[] => (front ? [...text] : [...text].reverse())
  const characters = inOrder(value)
  const ends = shellMatcher(inOrder(pattern)).ends(characters)
  const end = operator.length === 2 ? ends.at(-1) : ends[0]
  if (end === undefined) return value
  const rest = characters.slice(end)
  return (front ? rest : rest.reverse()).join('')
}

function replace(value: string, pattern: string, by: string, all: boolean): string {
  if (pattern === '') return value
  const matcher = shellMatcher([...pattern])
  const characters = [...value]
  let out = ''
  let at = 0
  while (at < characters.length) {
    const found = matcher.find(characters, at)
    if (found === undefined || found.end === found.start) break
    out += characters.slice(at, found.start).join('') + by
    at = found.end
    if (!all) break
  }
  return out + characters.slice(at).join('')
}
