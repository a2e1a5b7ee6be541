"""Answers of all kinds, as people write them in data sets of questions on images."""

# ruff: noqa: RUF001
from __future__ import annotations

WORDS = """
yes no red blue green 1 2 3 10 25 100 unknown left right cat dog man woman tennis frisbee kitchen
Yes No YES NO Red A a the an none two ten MRI mri CT PA AP T1 T2 DNA ok OK N/A n/a TV tv USA usa X x B I
"""
LINES = """
baseball bat
stop sign
on the table
to the left
black and white
not possible to tell
left upper lobe of the lung
it is red
It is red.
it is red. it is big.
yes, it is
no, thanks
left, right
red, white, blue
red , blue
red,blue
x-ray
X-ray
chest x-ray
t-shirt
T2-weighted
t2-weighted
FLAIR-weighted
one-way
wi-fi
mid-1990s
covid-19
f-16
3-4
50-60
1990-2000
-5
- 5
--
-
+
a-b-c
state-of-the-art
x - ray
don't know
don't
Don't know
can't tell
isn't
it's
it's red
women's
men's
the dog's tail
the dogs' tails
o'clock
5 o'clock
o'brien
O'Brien
l'eau
rock 'n' roll
'red'
'stop' and 'go'
y'all
couldn't've
dont
"stop"
"stop" and "go"
says "no parking"
5"
5" wide
5'10"
''
'
"
3.5
0.5
.5
3.14159
1.2.3
3 . 5
3.
1,000
1,000,000
1,000.50
1, 2
1, 2, 3
2, 3 and 4
1,2
12,34
10:30
10:30 am
10:30 a.m.
7:05
16:9
1:100
12:30:45
time: 10
note: red
5%
50 %
12.5%
100%
~5
<5
>5
>= 5
< 5 mm
5 mm
5mm
5.5 cm
5 x 3
5x3
3 x 4 cm
10^3
2+2
2 + 2
1+1=2
1 + 1 = 2
a=b
$5
$1,000
$ 5
5$
€5
£3.50
¥100
5 €
#1
# 1
no. 5
No. 5
a/b
and/or
24/7
1/2
1 1/2
km/h
yes / no
yes/no
left/right
(left)
left (right)
( left )
f(x)
f (x)
(a) red; (b) blue
[1]
[a, b]
{x}
<b>
u.s.
U.S.
u.s.a.
p.m.
a.m.
e.g. this
i.e.
etc.
Dr. Smith
Mr. T
St. Louis
Mt. Everest
www.example.com
example.com
http://example.com
https://example.com/a-b
user@mail.com
@home
#tag
snake_case
image_01.png
readme.txt
c++
c#
C++
node.js
what?
what?!
really!
!
?
...
red...
wait...what
..
.
,
;
:
red; blue
red ;blue
a & b
r&b
black & white
at&t
*
5*3
* star
a|b
a\\b
C:\\temp
^
~
`x`
café
Café
naïve
über
résumé
façade
señor
jalapeño
Zürich
São Paulo
50°
20°C
90° left
5–10
left – right
left—right
“stop”
it’s
don’t
l’eau
«non»
¿qué?
¡hola!
…
wait…
½
²
m²
µm
10 µm
α
β-blocker
Привет
Москва
ja
nein
Straße
红色
红 色
两 个
是
猫和狗
赤い
빨간색
عربي
😀
👍 yes
1st
2nd
21st century
mid-thoracic
pneumothorax
cardiomegaly
hyperintense
right-sided pleural effusion
no evidence of pneumonia.
both lungs, left > right
T1: hypointense; T2: hyperintense
T1/T2
IgG
pH
pH 7.4
H2O
CO2
Na+
Ca2+
5-HT
IL-6
E. coli
S. aureus
a, b, c, d
A, B and C
(1)
1)
1.
a)
i
ii
"""

ANSWERS = list(dict.fromkeys([*WORDS.split(), *filter(None, LINES.strip("\n").split("\n"))]))
"""At least 200, all different, none empty, none with a space at either end."""
