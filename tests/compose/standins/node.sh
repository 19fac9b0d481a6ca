#!/bin/sh
exec tbg devnet node --datadir /var/lib/bitcoin --host 0.0.0.0 --port 38332
