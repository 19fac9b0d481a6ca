import { sdk } from './sdk'
import { apiPort } from './interfaces'

// Database, streams, node and pool are programs of one container, under one supervisor.
export const main = sdk.setupMain(async ({ effects }) =>
  sdk.Daemons.of(effects).addDaemon('stack', {
    subcontainer: await sdk.SubContainer.of(
      effects,
      { imageId: 'light' },
      sdk.Mounts.of().mountVolume({
        volumeId: 'main',
        subpath: null,
        mountpoint: '/data',
        readonly: false,
      }),
      'stack',
    ),
    exec: {
      command: [
        'tbg',
        'up',
        '--light',
        '--state=/data/state',
        '--host=0.0.0.0',
        '--serve-host=0.0.0.0',
        '--every=60',
      ],
      // A database on a slow disk may take minutes to write it all down.
      sigtermTimeout: 300_000,
    },
    ready: {
      display: 'Pool and books',
      gracePeriod: 300_000,
      fn: () =>
        sdk.healthCheck.checkPortListening(effects, apiPort, {
          successMessage: 'Miners and their tools are answered',
          errorMessage: 'The stack is not ready',
        }),
    },
    requires: [],
  }),
)
