/** Ids and names of containers. */
import { randomBytes, randomInt } from 'node:crypto'
import { DockerError } from '../errors.ts'

const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/

const ADJECTIVES = [
  'able', 'amber', 'arctic', 'bold', 'brave', 'bright', 'brisk', 'calm', 'clever', 'cosmic', 'crisp', 'curious', 'dapper', 'daring', 'deft',
  'eager', 'early', 'earnest', 'fair', 'fleet', 'fond', 'frank', 'fresh', 'gentle', 'glad', 'golden', 'grand', 'happy', 'hardy', 'honest',
  'humble', 'ideal', 'jolly', 'jovial', 'keen', 'kind', 'lively', 'loyal', 'lucid', 'merry', 'mighty', 'modest', 'neat', 'nimble', 'noble',
  'patient', 'placid', 'plucky', 'polite', 'proud', 'quick', 'quiet', 'rapid', 'ready', 'serene', 'sharp', 'silent', 'sincere', 'smart', 'solid',
  'spry', 'steady', 'sunny', 'swift', 'tidy', 'tender', 'upbeat', 'valiant', 'vivid', 'warm', 'wise', 'witty', 'zealous', 'zesty',
]
const PEOPLE = [
  'abel', 'ampere', 'archimedes', 'babbage', 'banach', 'bell', 'bernoulli', 'bohr', 'boole', 'borg', 'bose', 'brahe', 'cantor', 'carson', 'cauchy',
  'cori', 'curie', 'darwin', 'dijkstra', 'dirac', 'edison', 'euclid', 'euler', 'faraday', 'fermat', 'fermi', 'feynman', 'fourier', 'galileo',
  'gauss', 'germain', 'goedel', 'haber', 'hamilton', 'hertz', 'hilbert', 'hopper', 'hubble', 'huygens', 'hypatia', 'joule', 'kelvin', 'kepler',
  'knuth', 'kovalevskaya', 'lagrange', 'lamarr', 'laplace', 'leibniz', 'liskov', 'lovelace', 'maxwell', 'meitner', 'mendel', 'morse', 'napier',
  'newton', 'nightingale', 'noether', 'ohm', 'pascal', 'pasteur', 'planck', 'poincare', 'ramanujan', 'riemann', 'ritchie', 'sagan', 'shannon',
  'swirles', 'tesla', 'thompson', 'turing', 'volta', 'watt', 'wilson', 'wozniak', 'wright', 'wu', 'yalow', 'zuse',
]

/** 64 hex digits whose first twelve are not all decimal, so that a short id is never taken for a number. */
export function newId(): string {
  for (;;) {
    const id = randomBytes(32).toString('hex')
    if (!/^\d+$/.test(id.slice(0, 12))) return id
  }
}

export const shortId = (id: string): string => id.slice(0, 12)

/** Without its slash; throws `invalid`. */
export function checkName(name: string): string {
  const bare = name.startsWith('/') ? name.slice(1) : name
  if (!NAME.test(bare)) throw new DockerError('invalid', `Invalid container name (${name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`)
  return bare
}

/** A name nobody has. */
export function randomName(taken: (name: string) => boolean): string {
  for (let i = 0; i < 6; i++) {
    const name = `${ADJECTIVES[randomInt(ADJECTIVES.length)]}_${PEOPLE[randomInt(PEOPLE.length)]}${i === 0 ? '' : String(randomInt(10))}`
    if (!taken(name)) return name
  }
  return newId().slice(0, 12)
}
