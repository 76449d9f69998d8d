'use strict'
// A Majordomo worker after RFC 7 or RFC 18: node mdp_worker.js VERSION SERVICE ID HOST PORT [WORK_MS [SLOW_AT SLOW_MS]]
// It beats while it works too, as timers do in Node. Its SLOW_AT-th task (1 is the first) takes SLOW_MS. The environment
// variables BEAT_MS (200) and PARTS (0) say how often it beats, and how many PARTIAL messages come before the end.
const { Dealer } = require('zeromq')

const [version, service, id, host, port, workMs = 1000, slowAt = 0, slowMs = 0] = process.argv.slice(2)
const { BEAT_MS = 200, PARTS = 0 } = process.env
const LIVENESS = 3
const isNew = version === '0.2'
const head = isNew ? ['MDPW02'] : ['', 'MDPW01']
const [FINAL, HEARTBEAT, DISCONNECT] = isNew ? ['\x04', '\x05', '\x06'] : ['\x03', '\x04', '\x05']
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
let tasks = 0

// A conversation, up to its end: its socket is closed, and the next one takes a new one.
async function converse() {
  const socket = new Dealer({ linger: 0 })
  let last = Promise.resolve()
  const send = (...frames) => (last = last.then(() => socket.closed || socket.send([...head, ...frames])))
  let liveness = LIVENESS
  const timer = setInterval(() => {
    if (liveness-- > 0) return send(HEARTBEAT)
    console.log('silence')
    socket.close()
  }, Number(BEAT_MS))
  socket.connect(`tcp://${host}:${port}`)
  await send('\x01', service)
  console.log('ready')
  for await (const frames of socket) {
    liveness = LIVENESS
    const [command, address, empty, ...body] = frames.slice(head.length)
    if (String(command) === DISCONNECT) {
      console.log('disconnected')
      break
    }
    if (String(command) === '\x02') {
      if (empty.length) throw new Error(`not as in the RFC: ${frames}`)
      work(send, address, body.join('|'))
    } else if (String(command) !== HEARTBEAT) throw new Error(`not as in the RFC: ${frames}`)
  }
  clearInterval(timer)
  if (!socket.closed) socket.close()
}

async function work(send, address, text) {
  tasks += 1
  console.log(`task ${text}`)
  await sleep(Number(tasks === Number(slowAt) ? slowMs : workMs))
  for (let part = 1; part <= Number(PARTS); part++) send('\x03', address, '', `${text} part ${part}`)
  send(FINAL, address, '', `${text} ${id}`)
  console.log(`answer ${text}`)
}

async function main() {
  for (;;) await converse()
}

main()
