import { test } from 'node:test'
import assert from 'node:assert/strict'
import { parseDockerignore } from './dockerignore.ts'
import { componentMatcher } from './glob.ts'
import { expand } from './words.ts'

test('patterns of one component, as Go has them', () => {
  const cases: [pattern: string, fitting: string[], others: string[]][] = [
    ['*.go', ['a.go', '.go', 'ä.go'], ['a.goo', 'a/b.go', 'go']], ['a?c', ['abc', 'a😀c'], ['ac', 'abbc', 'a/c']],
    ['[a-c]x', ['ax', 'cx'], ['dx', '-x']], ['[^a-c]x', ['dx', '-x'], ['ax', '/x']], ['[ab-]', ['-', 'b'], ['c']], ['[z-a]', [], ['b', 'z', '-']],
    ['\\*', ['*'], ['a', '\\*']], ['a.+(b)|c$', ['a.+(b)|c$'], ['aa+b']], ['a*b*c', ['abc', 'aXbYc', 'abcbc'], ['acb', 'abcd']], ['', [''], ['a']],
  ]
  for (const [pattern, fitting, others] of cases) {
    const fits = componentMatcher(pattern)
    for (const name of fitting) assert.equal(fits(name), true, `${pattern} ${name}`)
    for (const name of others) assert.equal(fits(name), false, `${pattern} ${name}`)
  }
  assert.throws(() => componentMatcher('a[b'), { code: 'invalid' })
})

test('lines of .dockerignore', () => {
  const cases: [lines: string[], ignored: string[], kept: string[]][] = [
    [['node_modules'], ['node_modules', 'node_modules/a/b'], ['node_modules2', 'a/node_modules']],
    [['**/x'], ['x', 'a/x', 'a/b/x', 'a/x/y'], ['ax', 'a/xy']], [['a/**'], ['a/b', 'a/b/c'], ['a', 'b']], [['a/**/z'], ['a/z', 'a/b/c/z'], ['a/bz', 'az']],
    [['**'], ['a', 'a/b'], []], [['*.md', '!R*.md'], ['a.md'], ['README.md', 'd/a.md']], [['**/**/q'], ['q', 'a/q'], ['aq']], [['*/b'], ['a/b', 'a/b/c'], ['b', 'a/c/b']],
  ]
  for (const [lines, ignored, kept] of cases) {
    const ignores = parseDockerignore(lines.join('\n'))
    for (const path of ignored) assert.equal(ignores(path), true, `${lines.join()} ${path}`)
    for (const path of kept) assert.equal(ignores(path), false, `${lines.join()} ${path}`)
  }
})

test('no pattern takes for ever', { timeout: 20_000 }, () => {
  const stars = `${'*a'.repeat(60)}b`
  const text = 'a'.repeat(2000)
  assert.equal(componentMatcher(stars)(text), false)
  assert.equal(parseDockerignore(`${'**/'.repeat(60)}b`)('a/'.repeat(1000)), false)
  for (const operator of ['#', '##', '%', '%%', '/', '//']) {
    const word = `\${A${operator}${operator.startsWith('%') ? `b${'a*'.repeat(60)}` : stars}${operator.startsWith('/') ? '/x' : ''}}`
    assert.equal(expand(word, () => text, '\\'), text, operator)
  }
})

test('replacements take the first match, and the longest', () => {
  const lookup = (): string => 'aXbXbc'
  const cases: [string, string][] = [
    ['${A/X*b/-}', 'a-c'], ['${A//X?/-}', 'a--c'], ['${A//b/}', 'aXXc'], ['${A/*/-}', '-'], ['${A//z/-}', 'aXbXbc'], ['${A/?/-}', '-XbXbc'],
    ['${A#*X}', 'bXbc'], ['${A##*X}', 'bc'], ['${A%b*}', 'aXbX'], ['${A%%b*}', 'aX'], ['${A#z}', 'aXbXbc'],
  ]
  for (const [word, want] of cases) assert.equal(expand(word, lookup, '\\'), want, word)
})
