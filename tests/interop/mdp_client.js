'use strict'
// A Majordomo client after RFC 7 or RFC 18: node mdp_client.js VERSION SERVICES ID N HOST PORT
// Prints like mdp_client.py.
const { Dealer, Request } = require('zeromq')

async function main() {
  const [version, services, id, n, host, port] = process.argv.slice(2)
  const isNew = version === '0.2'
  const socket = isNew ? new Dealer() : new Request()
  socket.connect(`tcp://${host}:${port}`)
  for (const service of services.split(',')) {
    for (let i = 1; i <= Number(n); i++) {
      const head = isNew ? ['MDPC02', '\x01'] : ['MDPC01']
      await socket.send([...head, service, `${id}-${i}`])
      for (let isOver = false; !isOver; ) {
        const frames = (await socket.receive()).map(String)
        const body = frames.pop()
        const mark = frames.slice(0, -1).join('')
        isOver = mark === (isNew ? 'MDPC02\x03' : 'MDPC01')
        if (frames.at(-1) !== service || !(isOver || mark === 'MDPC02\x02')) throw new Error(`not as in the RFC: ${frames}`)
        console.log(`${isOver ? 'reply' : 'part'} ${service} ${body}`)
      }
    }
  }
  socket.close()
}

main()
