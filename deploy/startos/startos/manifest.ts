import { setupManifest } from '@start9labs/start-sdk'

const repository = 'https://github.com/thebitcoingame/mining-data'

export const manifest = setupManifest({
  id: 'tbg-mining',
  title: 'The Bitcoin Game',
  license: 'MIT',
  packageRepo: `${repository}/tree/main/deploy/startos`,
  upstreamRepo: repository,
  marketingUrl: repository,
  donationUrl: null,
  description: {
    short: 'A solo pool whose books prove every share',
    long:
      'A solo mining pool for a Bitaxe or a NerdMiner, with a database behind it that proves that no ' +
      'share was lost. So far it is for test networks: it brings a regtest node of its own, and ' +
      'refuses mainnet.',
  },
  volumes: ['main'],
  images: {
    light: {
      source: { dockerTag: 'ghcr.io/thebitcoingame/mining-data/light:0.1.0' },
      arch: ['x86_64', 'aarch64'],
    },
  },
  alerts: {
    install: null,
    update: null,
    uninstall: null,
    restore: null,
    start: null,
    stop: null,
  },
  dependencies: {},
})
