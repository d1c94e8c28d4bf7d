"""The scene of the simulated arm: seven hinges, a gripper, a table, a cube and a camera.

Everything is made of boxes, capsules and spheres, in few colours that differ from each other: what
moves is bright, what stands still is dull. Axes: x away from the base, y to its left, z up, metres;
the top of the table is z = 0.
"""

FRAME_SECONDS = 0.25
# Finer than the arm needs: with longer steps what is pushed slides away, and what is held slips.
TIME_STEP = 0.0025

SHOULDER_HEIGHT = 0.36
UPPER_ARM = 0.42
LOWER_ARM = 0.40
# From the wrist to the point between the finger tips, whose pose is the arm's.
HAND = 0.21
# Of one finger, from closed to open.
FINGER_TRAVEL = 0.04

CUBE_SIDE = 0.05
CAMERA = "front"
LARGEST_PICTURE = 512

# Per hinge: axis, lowest and highest angle, stiffness and damping of its servo.
HINGES = (
    ("0 0 1", -2.9, 2.9, 4000, 220),
    ("0 1 0", -2.1, 2.1, 4000, 220),
    ("0 0 1", -2.9, 2.9, 4000, 160),
    ("0 1 0", 0.05, 2.8, 4000, 160),
    ("0 0 1", -2.9, 2.9, 800, 25),
    ("0 1 0", -1.2, 2.9, 800, 25),
    ("0 0 1", -3.1, 3.1, 800, 25),
)
# An elbow that is up and a hand that points down.
HOME = (0.0, 0.4, 0.0, 1.8, 0.0, 0.94, 0.0)

# Which things touch: a thing's kinds and the kinds that it meets, as MuJoCo's two bit masks.
_NO_TOUCH = 'contype="0" conaffinity="0"'
_TABLE_TOUCH = 'contype="1" conaffinity="1"'
_CUBE_TOUCH = 'contype="1" conaffinity="3"'
_FINGER_TOUCH = 'contype="2" conaffinity="0"'


def scene_text() -> str:
    """The scene as MuJoCo's XML (MJCF)."""
    half = CUBE_SIDE / 2
    return f"""
<mujoco model="arm">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{TIME_STEP}" integrator="implicitfast" cone="pyramidal" noslip_iterations="5"/>
  <size memory="4M"/>
  <visual>
    <global offwidth="{LARGEST_PICTURE}" offheight="{LARGEST_PICTURE}"/>
    <quality shadowsize="0" offsamples="4" numslices="12" numstacks="6"/>
    <headlight ambient="0.45 0.45 0.45" diffuse="0.35 0.35 0.35" specular="0 0 0"/>
    <map znear="0.05" zfar="10"/>
  </visual>
  <default>
    <joint armature="0.05" damping="0.5"/>
    <geom {_NO_TOUCH} density="150"/>
    <default class="link"><geom rgba="0.92 0.92 0.95 1"/></default>
    <default class="hinge"><geom rgba="0.10 0.25 0.85 1"/></default>
    <default class="hand"><geom rgba="1.0 0.80 0.0 1"/></default>
    <default class="finger"><geom rgba="1.0 0.0 0.75 1"/></default>
  </default>
  <worldbody>
    <light pos="0.8 -1.2 2.5" dir="-0.15 0.45 -1" directional="true" castshadow="false"
           diffuse="0.35 0.35 0.35" specular="0 0 0"/>
    <camera name="{CAMERA}" pos="1.30 -0.62 0.78" fovy="44"
            xyaxes="{_looking_at((1.30, -0.62, 0.78), (0.46, 0.02, 0.18))}"/>
    <geom name="table" type="box" pos="0.5 0 -0.05" size="0.75 0.75 0.05"
          rgba="0.22 0.34 0.28 1" {_TABLE_TOUCH} friction="0.8 0.005 0.0001"/>
    <geom name="mat" type="box" pos="0.5 0 0.0005" size="0.2 0.2 0.0005" rgba="0.33 0.45 0.38 1"/>
    <geom name="wall" type="box" pos="-0.75 0 0.5" size="0.01 3 2" rgba="0.14 0.15 0.18 1"/>
    <geom name="side" type="box" pos="0.5 1.2 0.5" size="3 0.01 2" rgba="0.14 0.15 0.18 1"/>
    {_arm()}
    <body name="cube" pos="0.5 0 {half}">
      <joint name="cube" type="free" damping="0.05"/>
      <geom name="cube" type="box" size="{half} {half} {half}" mass="0.2"
            rgba="0.95 0.10 0.05 1" {_CUBE_TOUCH} condim="4"
            friction="1.2 0.01 0.0001" solref="0.006 1"/>
    </body>
  </worldbody>
  <equality>
    <joint joint1="finger_right" joint2="finger_left" polycoef="0 1 0 0 0"/>
  </equality>
  <actuator>
    {_servos()}
    <position name="gripper" joint="finger_left" kp="1500" kv="40" ctrlrange="0 {FINGER_TRAVEL}"
              forcerange="-30 30"/>
  </actuator>
</mujoco>
"""


def _arm() -> str:
    """Bodies from the base to the finger tips, each inside the one before; upright at angles 0."""
    upper, lower = UPPER_ARM / 2, LOWER_ARM / 2
    lengths = (0.18, upper, upper, lower, lower, 0.06, HAND - 0.06)
    starts = (SHOULDER_HEIGHT - 0.18, *lengths[:-1])
    radii = (0.06, 0.05, 0.05, 0.042, 0.042, 0.036, 0.03)
    text = '<geom class="link" type="cylinder" pos="0 0 0.09" size="0.08 0.09"/>'
    for number, (axis, low, high, _, _) in enumerate(HINGES):
        long = lengths[number] if number < len(HINGES) - 1 else 0.05
        text += f"""
    <body name="link{number}" pos="0 0 {starts[number]}" gravcomp="1">
      <joint name="hinge{number}" axis="{axis}" range="{low} {high}"/>
      <geom class="link" type="capsule" size="{radii[number]}" fromto="0 0 0 0 0 {long}"/>"""
        if number in (1, 3, 5):
            text += f'<geom class="hinge" type="sphere" size="{radii[number] * 1.35}"/>'
    text += _hand()
    return text + "</body>" * len(HINGES)


def _hand() -> str:
    reach = HAND - 0.06
    text = f"""
      <body name="hand" pos="0 0 0.05" gravcomp="1">
        <geom class="hand" type="box" pos="0 0 0.02" size="0.03 0.085 0.02"/>
        <site name="grip" pos="0 0 {reach - 0.05}" quat="0 0 1 0"/>"""
    for side, sign in (("left", 1), ("right", -1)):
        text += f"""
        <body name="finger_{side}" pos="0 {sign * 0.012} 0.04" gravcomp="1">
          <joint name="finger_{side}" type="slide" axis="0 {sign} 0" range="0 {FINGER_TRAVEL}"
                 armature="0.2" damping="5"/>
          <geom name="finger_{side}" class="finger" type="box" pos="0 0 0.035"
                size="0.02 0.012 0.045" {_FINGER_TOUCH} condim="4"
                friction="1.6 0.02 0.0001" solref="0.006 1"/>
        </body>"""
    return text + "</body>"


def _servos() -> str:
    return "\n    ".join(
        f'<position joint="hinge{number}" kp="{stiffness}" kv="{damping}"/>'
        for number, (_, _, _, stiffness, damping) in enumerate(HINGES)
    )


def _looking_at(place: tuple[float, float, float], target: tuple[float, float, float]) -> str:
    """The camera's x and y axes when it looks from `place` to `target` with z upwards."""
    back = [here - there for here, there in zip(place, target, strict=True)]
    right = (-back[1], back[0], 0.0)  # z cross back
    up = (
        back[1] * right[2] - back[2] * right[1],
        back[2] * right[0] - back[0] * right[2],
        back[0] * right[1] - back[1] * right[0],
    )
    return " ".join(f"{value:.9f}" for value in (*right, *up))
