// Register a person: an 18-digit identity number fills birth date and sex. The server checks the digits again.
import { fresh, whenShown } from './ready.js'

const halfWidth = text => text.replace(/[\uff10-\uff19\uff38\uff58]/g, c => String.fromCharCode(c.charCodeAt(0) - 0xfee0)).replace(/\s/g, '').toUpperCase()

whenShown(root => {
  for (const form of fresh(root, '[data-register]', 'Register')) {
    const number = form.querySelector('[name=id_no]')
    const fill = () => {
      const id = halfWidth(number.value)
      if (!/^\d{17}[\dX]$/.test(id)) return
      const birth = form.querySelector('[name=birth_date]')
      const sex = form.querySelector('[name=sex]')
      if (birth) birth.value = `${id.slice(6, 10)}-${id.slice(10, 12)}-${id.slice(12, 14)}`
      if (sex) sex.value = Number(id[16]) % 2 ? 'male' : 'female'
      const division = form.querySelector('[name=division]')
      if (division && !division.value) division.value = id.slice(0, 6)
    }
    number?.addEventListener('input', fill)
    if (number?.value) fill() // the number searched for comes along
  }
})
